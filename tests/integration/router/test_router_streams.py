"""What is more than one request and one answer: streams, WebSockets, gRPC, TCP, HTTP/1.0."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
import websockets

from sandbox.keys import new_key
from sandbox.router import KeyRoutes, Target
from sandbox.service import CLIENT

if TYPE_CHECKING:
    from tests.integration.router.conftest import World


async def test_a_chunk_arrives_while_the_stream_is_still_open(world: World) -> None:
    fork = await world.fork("users", "users v2")
    box = await world.sandbox({"users": fork})
    async with world.client.stream(
        "GET", f"{world.url('users')}/stream", headers={"x-spurline-key": box.key}
    ) as answer:
        chunks = answer.aiter_bytes()
        assert await anext(chunks) == b"data: first\n\n"
        fork.release.set()
        assert await anext(chunks) == b"data: last\n\n"


async def test_a_websocket_reaches_the_fork_through_the_ingress(world: World) -> None:
    slot = await world.router.reserve()
    box = await world.sandbox({"users": await world.fork("users", "users v2")}, slot=slot)
    url = world.router.ingress(slot, "users").replace("http", "ws")
    async with websockets.connect(f"{url}/ws", proxy=None) as socket:
        assert await socket.recv() == f"users v2 {box.key}"
        await socket.send("hello")
        assert await socket.recv() == "hello"


async def test_an_open_websocket_is_seen_and_counted_once(world: World) -> None:
    box = await world.sandbox({"users": await world.fork("users", "users v2")})
    since = await world.router.cursor()
    url = world.url("users").replace("http", "ws")
    async with websockets.connect(f"{url}/ws", proxy=None, additional_headers={"x-spurline-key": box.key}) as socket:
        await socket.recv()
        (hop,) = (await world.seen(box.key, since)).hops
        assert (hop.served_by, hop.generation, hop.status) == ("fork", 1, 101)
    (hop,) = (await world.seen(box.key, since)).hops
    assert (hop.served_by, hop.generation, hop.status) == ("fork", 1, 101)


async def say(channel: grpc.aio.Channel, text: bytes, *, key: str = "") -> bytes:
    call = channel.unary_unary("/echo/Say")
    answer: bytes = await call(text, metadata=(("x-spurline-key", key),) if key else ())
    return answer


async def test_grpc_is_routed_recorded_and_refused_in_its_own_terms(world: World) -> None:
    key, unknown = new_key(), new_key()
    from_here = world.router.address(CLIENT, "rpc")
    await world.router.apply([KeyRoutes("box", key, {"rpc": Target(world.peers["rpc"].address, 4)})])
    since = await world.router.cursor()
    async with grpc.aio.insecure_channel("{}:{}".format(*from_here)) as channel:
        assert await say(channel, b"hi") == b"rpc -"
        assert await say(channel, b"hi", key=key) == f"rpc {key}".encode()
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await say(channel, b"fail", key=key)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await say(channel, b"hi", key=unknown)
    assert missing.value.code() == grpc.StatusCode.NOT_FOUND
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "unknown routing key" in (refused.value.details() or "")
    window = await world.seen(key, since)
    assert [(hop.generation, hop.grpc_status) for hop in window.hops] == [(4, 0), (4, 5)]
    assert [hop.failed for hop in window.hops] == [False, True]
    (exchange,) = window.exchanges
    assert (exchange.service, exchange.grpc_status) == ("rpc", 5)
    (hop,) = (await world.seen(unknown, since)).hops
    assert hop.served_by == "refused"


async def test_grpc_works_through_the_ingress(world: World) -> None:
    slot = await world.router.reserve()
    box = await world.sandbox({"rpc": world.peers["rpc"]}, slot=slot)
    target = world.router.ingress(slot, "rpc").removeprefix("http://")
    async with grpc.aio.insecure_channel(target) as channel:
        assert await say(channel, b"hi") == f"rpc {box.key}".encode()


@asynccontextmanager
async def connection(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def test_tcp_is_passed_on_and_never_recorded(world: World) -> None:
    box = await world.sandbox({})
    since = await world.router.cursor()
    async with connection(*world.router.address("web", "db")) as (reader, writer):
        writer.write(b"select 1\n")
        assert await reader.readline() == b"select 1\n"
    window = await world.seen(box.key, since)
    assert (window.hops, window.strays) == ((), ())


async def test_an_old_client_is_answered_too(world: World) -> None:
    async with connection(*world.router.address(CLIENT, "users")) as (reader, writer):
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"200"


async def test_header_names_keep_their_case(world: World) -> None:
    """A raw service, since servers of Python lower-case what they read."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nX-My-Header: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = "{}:{}".format(*server.sockets[0].getsockname())
        await world.router.apply([KeyRoutes("box", key := new_key(), {"users": Target(address, 1)})])
        async with connection(*world.router.address(CLIENT, "users")) as (reader, writer):
            request = f"GET / HTTP/1.1\r\nHost: x\r\nX-Mixed-Case: 1\r\nX-Spurline-Key: {key}\r\n\r\n"
            writer.write(request.encode())
            head = await reader.readuntil(b"\r\n\r\n")
    assert b"X-Mixed-Case: 1" in heads[0]
    assert b"X-My-Header: 1" in head
