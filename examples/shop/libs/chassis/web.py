"""A small HTTP/1.1 server with a router: JSON in, JSON out, errors as `{"error": …}`.

    app = App("users")

    @app.route("GET", "/users/{id}")
    def show(request: Request, id: str) -> Answer: ...

    app.serve(port)

Tests need no socket: `app.call("GET", "/users/7")` goes through the same router.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from chassis import telemetry
from chassis.refusal import Refusal
from chassis.stopping import wait_for


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object; refuses anything else with 400."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as problem:
            raise Refusal(400, "the body is not JSON", str(problem)) from None
        if not isinstance(value, dict):
            raise Refusal(400, "the body must be a JSON object")
        return value


@dataclass(frozen=True)
class Answer:
    json: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None

    def payload(self) -> tuple[str, bytes]:
        """Content type and bytes."""
        if self.text is not None:
            return "text/plain; charset=utf-8", self.text.encode()
        return "application/json", json.dumps(self.json).encode()


Handler = Callable[..., Answer]


class App:
    """Routes of one service. `/healthz` is there from the start."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self.route("GET", "/healthz")(lambda _: Answer({"service": name, "status": "ok"}))

    def route(self, method: str, pattern: str) -> Callable[[Handler], Handler]:
        """Register a handler; `{name}` matches one segment, `{name*}` the rest of the path."""
        regex = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.+)", pattern)
        regex = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", regex)

        def register(handler: Handler) -> Handler:
            self._routes.append((method, re.compile(regex), handler))
            return handler

        return register

    def answer(self, request: Request) -> Answer:
        """Find the handler, run it in the request's trace, turn refusals into answers."""
        try:
            with telemetry.incoming(request.headers):
                return self._dispatch(request)
        except Refusal as refusal:
            self.log(f"{request.method} {request.path} refused: {refusal.error}; {refusal.detail}".removesuffix("; "))
            body = {"error": refusal.error} | ({"detail": refusal.detail} if refusal.detail else {})
            return Answer(body, refusal.status)
        except Exception as bug:  # one broken request must not take the service down
            self.log(f"{request.method} {request.path} failed")
            sys.excepthook(type(bug), bug, bug.__traceback__)
            return Answer({"error": f"{self.name} failed", "detail": f"{type(bug).__name__}: {bug}"}, 500)

    def call(self, method: str, path: str, json_body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request without a socket, for tests."""
        body = b"" if json_body is None else json.dumps(json_body).encode()
        return self.answer(read_request(method, path, headers or {}, body))

    def log(self, line: str) -> None:
        print(f"{self.name}: {line}", file=sys.stderr, flush=True)

    def serve(self, port: int) -> None:
        """Serve on loopback until SIGTERM or Ctrl-C."""
        stops = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # before there are threads, so that the signal waits for us
        server = _Server(("127.0.0.1", port), _connection(self))
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.log(f"listening on {port}")
        wait_for(stops)
        server.shutdown()

    def _dispatch(self, request: Request) -> Answer:
        allowed: set[str] = set()
        for method, pattern, handler in self._routes:
            if match := pattern.fullmatch(request.path):
                if method in (request.method, "*"):
                    return handler(request, **match.groupdict())
                allowed.add(method)
        if allowed:
            raise Refusal(405, f"{request.method} is not allowed here", f"allowed: {', '.join(sorted(allowed))}")
        raise Refusal(404, f"{self.name} knows no {request.path}")


def read_request(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
    """A request from its raw parts; header names become lower case, the last of equal query names wins."""
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return Request(method, parts.path, query, {name.lower(): value for name, value in headers.items()}, body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def _connection(app: App) -> type[BaseHTTPRequestHandler]:
    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            answer = app.answer(read_request(self.command, self.path, self._merged_headers(), body))
            content_type, payload = answer.payload()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(payload)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            app.log(f"{self.command} {self.path} {code}")

        def _merged_headers(self) -> dict[str, str]:
            merged: dict[str, str] = {}
            for name, value in self.headers.items():
                name = name.lower()
                merged[name] = f"{merged[name]},{value}" if name in merged else value
            return merged

    return Connection
