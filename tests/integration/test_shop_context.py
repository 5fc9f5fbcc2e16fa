"""What each service of examples/shop hands on of a request's context, seen by a neighbour that writes it down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from tests.processes import end

SHOP: Final = Path(__file__).parents[2] / "examples" / "shop"
TRACE_ID: Final = "5b17" + "0123456789abcdef" + "a" * 12
CONTEXT: Final = {
    "traceparent": f"00-{TRACE_ID}-{'1' * 16}-01",
    "tracestate": "vendor=1,spurline-key=0123456789abcdef",
    "baggage": "tenant=north,spurline-key=0123456789abcdef",
}
HANDED_ON: Final = ("traceparent", "tracestate", "baggage")


@dataclass
class Scribe:
    """A neighbour over HTTP and gRPC that notes the headers of what it is asked, and answers a fitting record."""

    answers: Mapping[str, Any]
    seen: list[dict[str, str]] = field(default_factory=list)
    http_port: int = 0
    grpc_port: int = 0

    def serve(self, stack: ExitStack) -> None:
        scribe = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                scribe.seen.append({name.lower(): value for name, value in self.headers.items()})
                body = json.dumps(scribe.answers).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        pages = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        stack.callback(pages.server_close)
        stack.callback(pages.shutdown)
        threading.Thread(target=pages.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.http_port = pages.server_port
        calls = grpc.server(ThreadPoolExecutor(2))
        calls.add_generic_rpc_handlers((_handler(self),))
        self.grpc_port = calls.add_insecure_port("127.0.0.1:0")
        calls.start()
        stack.callback(lambda: calls.stop(None).wait())


def _handler(scribe: Scribe) -> Any:
    class AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc ships no types
        def service(self, details: Any) -> Any:
            def answer(request: bytes, context: Any) -> bytes:
                scribe.seen.append(dict(details.invocation_metadata))
                return b""

            return grpc.unary_unary_rpc_method_handler(answer)

    return AnyMethod()


Start = Callable[[str, Mapping[str, str]], int]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def scribe(stack: ExitStack) -> Scribe:
    answers = {
        "versions": ["v1"],
        "id": 7,
        "name": "Ada",
        "email": "ada@example.com",
        "tier": "basic",
        "discount_percent": 0,
        "charges": [],
    }
    scribe = Scribe(answers)
    scribe.serve(stack)
    return scribe


@pytest.fixture
def start(stack: ExitStack, tmp_path: Path) -> Start:
    """Start a service with this environment; its port."""

    def started(name: str, environment: Mapping[str, str]) -> int:
        port = _free_port()
        command = ["statements.py"] if name == "legacy" else ["-m", name]
        log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=SHOP / "services" / name,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": "../../libs", "PORT": str(port), **environment},
            stdout=log,
            stderr=log,
        )
        stack.callback(end, process)
        while not _is_open(port):
            assert process.poll() is None, (tmp_path / f"{name}.log").read_text()
            time.sleep(0.02)
        return port

    return started


def _free_port() -> int:
    pages = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    pages.server_close()
    return pages.server_port


def _is_open(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port)
    try:
        connection.connect()
    except OSError:
        return False
    connection.close()
    return True


def ask(port: int, method: str, path: str, body: Any = None) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, json.dumps(body) if body else None, CONTEXT)
    connection.getresponse().read()
    connection.close()


def carried(headers: Mapping[str, str]) -> set[str]:
    """Which parts of the context arrived as they were sent (of `traceparent` the trace id)."""
    parts = {name for name in HANDED_ON if sorted(headers.get(name, "").split(",")) == sorted(CONTEXT[name].split(","))}
    return parts | ({"traceparent"} if TRACE_ID in headers.get("traceparent", "") else set())


def test_gateway_hands_everything_on_over_http_and_grpc(scribe: Scribe, start: Start) -> None:
    http, rpc = f"http://127.0.0.1:{scribe.http_port}", f"127.0.0.1:{scribe.grpc_port}"
    port = start("gateway", {"USERS_URL": http, "PRICING_ADDRESS": rpc, "INVENTORY_ADDRESS": rpc})
    for path in ("/users/7", "/quote?user=7&sku=tea-01", "/products"):
        scribe.seen.clear()
        ask(port, "GET", path)
        assert scribe.seen, path
        assert all(carried(headers) == set(HANDED_ON) for headers in scribe.seen), path


def test_orders_hands_everything_on(scribe: Scribe, start: Start) -> None:
    http, rpc = f"http://127.0.0.1:{scribe.http_port}", f"127.0.0.1:{scribe.grpc_port}"
    port = start("orders", {"USERS_URL": http, "PRICING_ADDRESS": rpc, "INVENTORY_ADDRESS": rpc, "PAYMENTS_URL": http})
    ask(port, "POST", "/orders", {"user": 7, "items": [{"sku": "tea-01"}]})
    assert len(scribe.seen) >= 4, "users twice, pricing, inventory"
    assert all(carried(headers) == set(HANDED_ON) for headers in scribe.seen)


def test_pricing_hands_on_traceparent_and_drops_baggage(scribe: Scribe, start: Start) -> None:
    port = start("pricing", {"LOYALTY_URL": f"http://127.0.0.1:{scribe.http_port}"})
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.enable_http_proxy", 0),)) as channel:
        quote = channel.unary_unary("/shop.pricing.Pricing/Quote")
        # QuoteRequest{user_id: 7, lines: [{sku: "tea-01", quantity: 1}]}
        line = b"\x0a\x06tea-01\x10\x01"
        reply = quote(b"\x08\x07\x12" + bytes([len(line)]) + line, metadata=tuple(CONTEXT.items()), timeout=20)
    assert reply
    (headers,) = scribe.seen
    assert carried(headers) == {"traceparent"}
    assert "baggage" not in headers
    assert "tracestate" not in headers


def test_legacy_hands_nothing_on(scribe: Scribe, start: Start) -> None:
    port = start("legacy", {"PAYMENTS_URL": f"http://127.0.0.1:{scribe.http_port}"})
    ask(port, "GET", "/statement?customer=4")
    (headers,) = scribe.seen
    assert not carried(headers)
    assert not set(HANDED_ON) & set(headers)
