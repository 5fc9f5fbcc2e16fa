"""Captured exchanges: the files that Envoy's tap writes, read into redacted values and removed.

What holds: a file is gone once it was looked at; what is kept in memory is bounded by number and by bytes, and the
oldest goes first, but none that failed for one that went well. The text is redacted before it is kept.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sandbox.exchanges import BODY_LIMIT_BYTES, Exchange, body_text, redact, redact_headers
from sandbox.router.routes import CLUSTER_HEADER, WATCH_HEADER

KEPT_LIMIT: Final = 2000
KEPT_LIMIT_BYTES: Final = 32 * 1024 * 1024
"""Of those that failed, and as much of those that went well."""
SWEEP_LIMIT: Final = 500
"""How many files one sweep reads; the rest, a flood of one fault, is removed unread."""


class Captures:
    """The folder of the tap's files, and the exchanges read from it."""

    def __init__(self, folder: Path, pairs: Sequence[tuple[str, str]]) -> None:
        self._folder = folder
        self._pairs = pairs
        self._failed, self._fine = _Shelf(), _Shelf()
        self._unread: set[str] = set()
        # Windows of several sandboxes sweep at once, each in a thread: one file is read by one of them.
        self._sweeping = threading.Lock()

    def sweep(self) -> None:
        """Read and remove what is there. A file that cannot be read yet gets one more chance."""
        with self._sweeping:
            self._sweep()

    def _sweep(self) -> None:
        paths = sorted(self._folder.iterdir(), key=_written)
        unread = set()
        for number, path in enumerate(paths):
            if number < SWEEP_LIMIT:
                try:
                    self._keep(exchange_of(path, self._pairs))
                except (ValueError, KeyError, TypeError, IndexError):
                    if path.name not in self._unread:
                        unread.add(path.name)
                        continue
            path.unlink(missing_ok=True)
        self._unread = unread

    def of(self, key: str, at: float) -> tuple[Exchange, ...]:
        """Exchanges with the key that began at or after `at`, oldest first."""
        found = (
            exchange
            for exchange in (*self._failed.all(), *self._fine.all())
            if exchange.key == key and exchange.at >= at
        )
        return tuple(sorted(found, key=lambda exchange: exchange.at))

    def _keep(self, exchange: Exchange) -> None:
        if exchange.key is not None:
            (self._failed if exchange.failed else self._fine).put(exchange)


class _Shelf:
    """The latest exchanges of one kind."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, Exchange]] = deque()
        self._bytes = 0

    def all(self) -> tuple[Exchange, ...]:
        kept = tuple(self._kept)  # at once: another window's sweep may add to it meanwhile
        return tuple(exchange for _, exchange in kept)

    def put(self, exchange: Exchange) -> None:
        size = len(exchange.request_body) + len(exchange.response_body)
        self._kept.append((size, exchange))
        self._bytes += size
        while len(self._kept) > KEPT_LIMIT or self._bytes > KEPT_LIMIT_BYTES:
            self._bytes -= self._kept.popleft()[0]


def exchange_of(path: Path, pairs: Sequence[tuple[str, str]]) -> Exchange:
    """One file of the tap, named `<pair>_<number>.json`."""
    caller, service = pairs[int(path.name.partition("_")[0])]
    trace = json.loads(path.read_bytes())["http_buffered_trace"]
    request, response = trace["request"], trace.get("response", {})
    sent, answered = _headers(request.get("headers", ())), _headers(response.get("headers", ()))
    trailers = _headers(response.get("trailers", ()))
    by_name = dict(sent)
    grpc = dict(trailers).get("grpc-status", dict(answered).get("grpc-status"))
    request_body, request_cut = _body(request)
    response_body, response_cut = _body(response)
    return Exchange(
        at=_seconds(request["headers_received_time"]),
        caller=caller,
        service=service,
        key=by_name.get("x-spurline-key"),
        method=by_name.get(":method", ""),
        path=redact(by_name.get(":path", "")),
        status=int(dict(answered).get(":status", 0)),
        request_headers=redact_headers(_plain(sent)),
        request_body=request_body,
        response_headers=redact_headers(_plain([*answered, *trailers])),
        response_body=response_body,
        grpc_status=int(grpc) if grpc is not None else None,
        truncated=request_cut or response_cut,
    )


def _headers(listed: Iterable[Mapping[str, str]]) -> list[tuple[str, str]]:
    return [(header["key"], header.get("value", "")) for header in listed]


def _plain(headers: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    return (item for item in headers if not item[0].startswith(":") and item[0] not in (CLUSTER_HEADER, WATCH_HEADER))


def _body(message: Mapping[str, Any]) -> tuple[str, bool]:
    body = message.get("body", {})
    text, cut = body_text(base64.b64decode(body.get("as_bytes", "")), BODY_LIMIT_BYTES)
    return text, cut or bool(body.get("truncated"))


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
