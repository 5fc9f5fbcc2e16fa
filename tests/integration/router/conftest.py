"""A small world for the router: a system of real HTTP, gRPC and TCP services in this process, and a real Envoy."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from sandbox.driver import Cursor, Window
from sandbox.keys import RoutingKey, new_key
from sandbox.router import KeyRoutes, Router, Target
from sandbox.service import CLIENT, Service, System

ANY = ("GET", "POST", "PUT", "DELETE")


@dataclass
class Peer:
    """One running service: answers with its name and what it was sent."""

    name: str
    address: str
    release: asyncio.Event = field(default_factory=asyncio.Event)
    """What `/stream` waits for between its first chunk and its last, and `/wait` before it answers."""
    served: int = 0


@dataclass
class World:
    """A router over running services, and what tests do with both."""

    router: Router
    peers: dict[str, Peer]
    stack: AsyncExitStack
    client: httpx.AsyncClient

    def url(self, service: str, caller: str = CLIENT) -> str:
        host, port = self.router.address(caller, service)
        return f"http://{host}:{port}"

    async def fork(self, name: str, label: str) -> Peer:
        """One more process of a service, not yet routed to."""
        return await self.stack.enter_async_context(http_peer(label))

    async def sandbox(self, forks: dict[str, Peer], *, slot: int | None = None) -> KeyRoutes:
        """A sandbox as the only one in the table."""
        routes = KeyRoutes("box", new_key(), {name: Target(peer.address, 1) for name, peer in forks.items()}, slot=slot)
        await self.router.apply([routes])
        return routes

    async def seen(self, key: str, since: Cursor) -> Window:
        return await self.router.window(key, since)


MakeWorld = Callable[..., Any]


def with_key(key: RoutingKey) -> dict[str, str]:
    return {"x-spurline-key": key}


def system(**changes: Any) -> System:
    """web calls users over HTTP, rpc over HTTP/2 and db over TCP."""
    services = {
        "web": Service("web", env={"A": "${url:users}", "B": "${host:rpc}", "C": "${port:db}"}),
        "users": Service("users"),
        "rpc": Service("rpc", protocol="http2"),
        "db": Service("db", protocol="tcp"),
    }
    return System("world", "web", services, **changes)


@pytest.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[MakeWorld]:
    """Start a router over the services; `make_world(carriers=…, unknown_key=…)` changes the system."""
    async with AsyncExitStack() as stack:

        async def make(folder: Path | None = None, **changes: Any) -> World:
            peers = {name: await stack.enter_async_context(http_peer(name)) for name in ("web", "users")}
            peers["rpc"] = await stack.enter_async_context(grpc_peer("rpc"))
            peers["db"] = await stack.enter_async_context(tcp_peer("db"))
            router = Router(folder or tmp_path / "router", system(**changes))
            stack.push_async_callback(router.aclose)
            await router.start({name: peer.address for name, peer in peers.items()})
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False))
            return World(router, peers, stack, client)

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    made: World = await make_world()
    return made


@asynccontextmanager
async def http_peer(name: str) -> AsyncIterator[Peer]:
    """An HTTP and WebSocket service under uvicorn."""
    listening = socket.create_server(("127.0.0.1", 0))
    peer = Peer(name, f"127.0.0.1:{listening.getsockname()[1]}")
    config = uvicorn.Config(
        application(peer), log_level="critical", lifespan="off", ws="websockets-sansio", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]), name=name)
    while not server.started:  # noqa: ASYNC110 - uvicorn offers no event for it
        await asyncio.sleep(0.005)
    try:
        yield peer
    finally:
        peer.release.set()
        server.should_exit = True
        server.force_exit = True
        await serving
        listening.close()


def application(peer: Peer) -> Starlette:
    async def echo(request: Request) -> Response:
        peer.served += 1
        headers: Sequence[tuple[str, str]] = request.headers.items()
        body = (await request.body()).decode(errors="replace")
        return JSONResponse(
            {"name": peer.name, "path": request.url.path, "headers": list(headers), "size": len(body)},
            status_code=int(request.query_params.get("status", 200)),
        )

    async def fail(request: Request) -> Response:
        return Response(
            '{"error": "no such column", "password": "hunter2", "pad": "' + "x" * 40_000 + '"}',
            status_code=500,
            headers={"set-cookie": "session=abc", "content-type": "application/json"},
        )

    async def stream(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"data: first\n\n"
            await peer.release.wait()
            yield b"data: last\n\n"

        return StreamingResponse(chunks(), media_type="text/event-stream")

    async def wait(request: Request) -> Response:
        peer.served += 1
        await peer.release.wait()
        return JSONResponse({"name": peer.name})

    async def redirect(request: Request) -> Response:
        return Response(status_code=302, headers={"location": request.query_params["to"]})

    async def echo_socket(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(f"{peer.name} {socket.headers.get('x-spurline-key', '-')}")
        async for text in socket.iter_text():
            await socket.send_text(text)

    return Starlette(
        routes=[
            Route("/fail", fail, methods=list(ANY)),
            Route("/stream", stream),
            Route("/wait", wait),
            Route("/redirect", redirect),
            WebSocketRoute("/ws", echo_socket),
            Route("/{rest:path}", echo, methods=list(ANY)),
        ]
    )


@asynccontextmanager
async def grpc_peer(name: str) -> AsyncIterator[Peer]:
    """A gRPC service `/echo/Say` that answers its name and the key it got; `fail` in the request aborts."""

    async def say(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        if request == b"fail":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such row")
        metadata = dict(context.invocation_metadata() or ())
        return f"{name} {metadata.get('x-spurline-key', '-')}".encode()

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(say)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", {"Say": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Peer(name, f"127.0.0.1:{port}")
    finally:
        await server.stop(None)


@asynccontextmanager
async def tcp_peer(name: str) -> AsyncIterator[Peer]:
    """A TCP service that sends back each line."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield Peer(name, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
