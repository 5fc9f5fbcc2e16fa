"""Exchanges: a request and its response at one hop, with headers and bodies, capped and redacted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sandbox.hops import is_error

BODY_LIMIT_BYTES: Final = 16 * 1024

_SECRET_HEADER = re.compile(
    r"(?i)^(authorization|proxy-authorization|cookie|set-cookie|x-api-key|api-key|x-auth-.*|.*(token|secret|password).*)$"
)
_SECRET_FIELD = re.compile(
    r"(?i)(?:password|passwd|secret|token|api[_-]?key|authorization|credential|private[_-]?key)"
    r"(?!ize)[\w.-]{0,64}+(?P<quote>\\*[\"']|)\s{0,16}+(?:=>|[:=])\s{0,16}+"
)
_SECRET_LINE = re.compile(
    r"(?im)(?P<name>\b(?:(?:proxy-)?authorization|(?:set-)?cookie|x-api-key)[ \t]*:[ \t]*+)(?!\[redacted)[^\r\n\"'\\]+"
)
_SECRET_VALUE = re.compile(
    r"(?<![A-Za-z0-9_-])(?:sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    r"|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+)"
)
_BEARER = re.compile(r"(?i)\b(?P<name>(?:bearer|basic)\s{1,4})(?=[\w~+/.-]*[0-9=])[\w~+/.-]{8,}=*")
_USERINFO = re.compile(r"(?P<name>://[^\s:/@\"']{0,256}:)[^\s/@\"']{1,256}(?=@)")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
_BARE = re.compile(r"(?:(?i:bearer|basic|digest|token)[ \t]{1,4})?[^\s,;&{}\[\]\"'\\]+")
_HARMLESS = re.compile(r"null|none|true|false|undefined", re.IGNORECASE)
# A key behind its mark or its name, whatever quoting or encoding stands between.
_KEY_CARRIER = re.compile(r"(?i)(5b17|spurline-key(?:[\s\"'\\:=]|%3a|%3d|%22){1,12})([0-9a-f]{4})[0-9a-f]{12}")
_QUOTE = re.compile(r"\\*[\"']")
_QUOTE_OR_LINE = re.compile(r"\\*[\"']|[\r\n]")
_STRUCTURE = re.compile(r"[{}\[\]]|\\*\"")
REDACTED: Final = "[redacted]"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One captured exchange at one hop. Texts are redacted and capped already."""

    at: float
    caller: str
    service: str
    key: str | None
    method: str
    path: str
    status: int
    request_headers: Mapping[str, str]
    request_body: str
    response_headers: Mapping[str, str]
    response_body: str
    grpc_status: int | None = None
    truncated: bool = False

    @property
    def failed(self) -> bool:
        """As of a hop."""
        return is_error(self.status, self.grpc_status)


def redact(text: str) -> str:
    """`text` without values that look like secrets; routing keys are cut to their first four digits.

    What was JSON is JSON afterwards. The time grows with the length of `text` only, whatever it says.
    """
    text = _PRIVATE_KEY.sub(REDACTED, text)
    for shape in (_SECRET_LINE, _BEARER, _USERINFO):
        text = shape.sub(rf"\g<name>{REDACTED}", text)
    text = _SECRET_VALUE.sub(REDACTED, text)
    return _KEY_CARRIER.sub(r"\1\2…", _without_fields(text))


def _without_fields(text: str) -> str:
    """`text` with the values behind secret names blanked: quoted, bare, or whole objects and lists of JSON."""
    kept: list[str] = []
    at = 0
    while (match := _SECRET_FIELD.search(text, at)) is not None:
        start = match.end()
        end, quote = _value_end(text, start, named_in_json=bool(match["quote"]))
        value = text[start:end]
        # A number of tokens is a count, and that a secret is missing is what a reader wants to see.
        count = match[0][:6].lower() == "tokens" and value.isdigit()
        blank = not (count or _HARMLESS.fullmatch(value) or value.startswith(REDACTED)) and value.strip("\\\"'")
        shown = quote or match["quote"]
        kept += (text[at:start], f"{shown}{REDACTED}{shown}" if blank else value)
        at = end
    return "".join((*kept, text[at:]))


def _value_end(text: str, start: int, *, named_in_json: bool) -> tuple[int, str]:
    """Where the value that begins at `start` ends, and the quote that it is in."""
    if text.startswith(REDACTED, start):
        return start + len(REDACTED), ""
    opening = _QUOTE.match(text, start)
    if opening is not None:
        return _after_quoted(text, opening.end(), opening[0]), opening[0]
    if named_in_json and text[start : start + 1] in ("{", "["):
        return _after_nested(text, start), ""
    bare = _BARE.match(text, start)
    return (bare.end() if bare else start), ""


def _after_quoted(text: str, start: int, quote: str) -> int:
    """Behind the closing twin of `quote`, which may itself be escaped (JSON in JSON); else the end of the line."""
    for match in _QUOTE_OR_LINE.finditer(text, start):
        mark = match[0][-1]
        if mark in "\r\n":
            return match.start()
        if mark == quote[-1]:
            own = _ends(len(quote) - 1, len(match[0]) - 1)
            if own is not None:
                return match.end() if own else match.end() - 1
    return len(text)


def _ends(opening: int, backslashes: int) -> bool | None:
    """Whether a quote behind this many backslashes ends a text whose own quote stands behind `opening` of them.

    True: it does; False: it ends a text around that one; None: it belongs to the text.
    """
    for _ in range((opening + 1).bit_length() - 1):
        if backslashes % 2 == 0:
            return False
        backslashes //= 2
    return True if backslashes % 2 == 0 else None


def _after_nested(text: str, start: int) -> int:
    """Behind the bracket that closes the one at `start`; the end where it is missing."""
    depth = 0
    at = start
    while (match := _STRUCTURE.search(text, at)) is not None:
        at = match.end()
        if match[0] in ("{", "["):
            depth += 1
        elif match[0] in ("}", "]"):
            depth -= 1
            if depth == 0:
                return at
        else:
            at = _after_quoted(text, at, match[0])
    return len(text)


def redact_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by name, repeated ones joined by a comma, secret ones blanked, keys masked."""
    joined: dict[str, str] = {}
    for name, value in headers:
        if _SECRET_HEADER.match(name):
            value = REDACTED
        elif name.lower() == "x-spurline-key":
            value = f"{value[:4]}…"
        else:
            value = redact(value)
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def body_text(body: bytes, limit: int = BODY_LIMIT_BYTES) -> tuple[str, bool]:
    """A body as redacted text and whether it was cut. Bytes that are no text are named by their number."""
    cut = len(body) > limit
    try:
        text = body[:limit].decode()
    except UnicodeDecodeError as error:
        if not (cut and error.start > limit - 4):
            return f"[{len(body)} bytes that are no text]", cut
        text = body[: error.start].decode()
    return redact(text), cut
