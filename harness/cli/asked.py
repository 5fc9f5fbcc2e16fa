"""What `spurline request` is to send: read strictly from the command line. UsageError names what cannot be used."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.settings import BaselineSettings
from sandbox.keys import TRACE_RANDOM
from tasks.errors import UsageError

_TRACE_ID: Final = re.compile(r"(?i)00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be sent."""

    method: str
    path: str
    service: str
    sandbox: str | None
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    timeout_s: float

    @property
    def digits(self) -> str:
        """The digits of the trace id that the router leaves as they are, by which the request is found again."""
        given = next(value for name, value in self.headers if name.lower() == "traceparent")
        match = _TRACE_ID.fullmatch(given)
        assert match is not None, "made or checked by `read_headers`"
        return match[1][TRACE_RANDOM].lower()


def read_method(text: str) -> str:
    """The method in capitals."""
    if not re.fullmatch(r"[A-Za-z]{1,20}", text):
        raise UsageError(f"{text!r} is no HTTP method", hint="spurline request [OPTIONS] METHOD PATH, e.g. GET /health")
    return text.upper()


def read_path(text: str) -> str:
    """The path, which may hold a query."""
    if not text.startswith("/"):
        raise UsageError(f"the path {text!r} does not begin with '/'", hint="the service is named by --service")
    return text


def read_service(name: str | None, baseline: BaselineSettings) -> str:
    """The service to ask, the entry by default."""
    service = name or baseline.entry
    if service not in baseline.services:
        raise UsageError(f"there is no service {service!r}", hint=f"services: {', '.join(baseline.services)}")
    if baseline.services[service].protocol == "tcp":
        raise UsageError(f"{service!r} speaks tcp, not HTTP", hint="ask a service that speaks HTTP")
    return service


def read_headers(texts: Sequence[str], *, with_body: bool) -> tuple[tuple[str, str], ...]:
    """The headers, with a traceparent added where none is given, and JSON as the type of a body likewise."""
    headers = []
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip()):
            raise UsageError(f"{text!r} is no header", hint="write -H 'name: value'")
        headers.append((name.strip(), value.strip()))
    names = {name.lower() for name, _ in headers}
    if with_body and "content-type" not in names:
        headers.append(("content-type", "application/json"))
    return _with_trace(headers)


def _with_trace(headers: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    for name, value in headers:
        if name.lower() == "traceparent":
            if not _TRACE_ID.fullmatch(value):
                raise UsageError(f"{value!r} is no traceparent", hint="leave it out: Spurline makes one")
            return tuple(headers)
    return (*headers, ("traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"))


def read_body(data: str | None) -> bytes | None:
    """The body: the text itself, the content of `@FILE`, or stdin for `@-`."""
    if data is None:
        return None
    if data == "@-":
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode()
    path = Path(data[1:])
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"--data: {str(path)!r} cannot be read: {error.strerror}", hint="@FILE names a file") from None
