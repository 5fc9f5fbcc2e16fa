"""Exchanges: a failing request and its response at one hop, with headers and bodies, capped and redacted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

BODY_LIMIT_BYTES: Final = 16 * 1024

_SECRET_HEADER = re.compile(
    r"(?i)^(authorization|proxy-authorization|cookie|set-cookie|x-api-key|api-key|x-auth-.*|.*(token|secret|password).*)$"
)
_SECRET_FIELD = re.compile(
    r"""(?ix) ("?[\w.-]*(?:password|passwd|secret|token|api[_-]?key|authorization|credential)[\w.-]*"?\s*[:=]\s*)
        ("(?:[^"\\]|\\.)*"|[^\s,;&}\]]+)"""
)
_SECRET_VALUE = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+)"
)
_KEY_CARRIER = re.compile(r"(5b17|spurline-key=)([0-9a-f]{4})[0-9a-f]{12}")
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


def redact(text: str) -> str:
    """`text` without values that look like secrets; routing keys are cut to their first four digits."""
    text = _SECRET_VALUE.sub(REDACTED, text)
    text = _SECRET_FIELD.sub(lambda m: m[1] + (f'"{REDACTED}"' if m[2].startswith('"') else REDACTED), text)
    return _KEY_CARRIER.sub(r"\1\2…", text)


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
