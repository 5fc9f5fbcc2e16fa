"""A hundred answers that stream at once: CPU a piece, ours beside the SDK's own reader on both of its transports.

A provider in a process of its own sends each answer in many small pieces, as the API does. CPU is the reading process's
own; nothing is asserted of the wall clock. Rounds take turns.

    python benchmarks/streams.py [--streams N] [--pieces N] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final

import anthropic
from shop_copy import RESULTS, quiet

from harness.agents.anthropic.client import ModelClient
from harness.agents.meter import OpenMeter

MODEL: Final = "claude-sonnet-5-5"
PAUSE_S: Final = 0.02
PIECE: Final = "some words here "
ASKED: Final[Any] = [{"role": "user", "content": "hello"}]
Read = Callable[[], Awaitable[int]]


def event(document: dict[str, Any]) -> bytes:
    """One event of the stream, as a chunk of HTTP/1.1."""
    data = f"event: {document['type']}\ndata: {json.dumps(document)}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


async def answer(pieces: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request of a connection in so many pieces."""
    usage = {"input_tokens": 10, "output_tokens": 1}
    message: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "usage": usage,
    }
    message |= {"stop_reason": None, "stop_sequence": None}
    piece = event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": PIECE}})
    while head := await reader.readuntil(b"\r\n\r\n"):
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(event({"type": "message_start", "message": message}))
        begun = {"type": "text", "text": ""}
        writer.write(event({"type": "content_block_start", "index": 0, "content_block": begun}))
        for _ in range(pieces):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(PAUSE_S)
        writer.write(event({"type": "content_block_stop", "index": 0}))
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        writer.write(event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 50}}))
        writer.write(event({"type": "message_stop"}) + b"0\r\n\r\n")


def provider(pieces: int, pipe: Connection) -> None:
    """Serve until the other end says so."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(pieces, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1000)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)

    asyncio.run(serve())


@asynccontextmanager
async def served(pieces: int) -> AsyncIterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=provider, args=(pieces, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{await asyncio.to_thread(ours.recv)}"
    finally:
        ours.send(None)
        process.join()


@asynccontextmanager
async def sdk(url: str, transport: Callable[[], Any]) -> AsyncIterator[Read]:
    """The SDK's own reader."""
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0, http_client=transport()) as client:

        async def read() -> int:
            async with client.messages.stream(model=MODEL, max_tokens=100, messages=ASKED) as stream:
                return len(await stream.get_final_text())

        yield read


@asynccontextmanager
async def spurline(url: str) -> AsyncIterator[Read]:
    meter = OpenMeter(calls_in_flight=1000)
    async with ModelClient(model=MODEL, max_tokens=100, meter=meter, base_url=url, api_key="any") as client:

        async def read() -> int:
            reply = await client.call("one", system=[], tools=[], messages=ASKED)
            return len(reply.content[0]["text"])

        yield read


async def cpu_us(read: Read, streams: int, pieces: int) -> float:
    """Microseconds of CPU for one piece."""
    await read()
    began = time.process_time()
    lengths = await asyncio.gather(*(read() for _ in range(streams)))
    used_s = time.process_time() - began
    assert set(lengths) == {pieces * len(PIECE)}
    return used_s / (streams * pieces) * 1e6


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--pieces", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    readers: dict[str, Callable[[str], AbstractAsyncContextManager[Read]]] = {
        "spurline": spurline,
        "sdk, httpx": partial(sdk, transport=anthropic.DefaultAsyncHttpxClient),
        "sdk, aiohttp": partial(sdk, transport=anthropic.DefaultAioHttpClient),
    }
    before = await quiet()
    taken: dict[str, list[float]] = {name: [] for name in readers}
    async with served(options.pieces) as url:
        for _ in range(options.rounds):
            for name, reader in readers.items():
                async with reader(url) as read:
                    taken[name].append(await cpu_us(read, options.streams, options.pieces))
    medians = {name: statistics.median(each) for name, each in taken.items()}
    for name, median in medians.items():
        print(f"{name:14} {median:6.0f} µs of CPU a piece, {median / medians['spurline']:.2f} of ours")
    result = {**vars(options), "cores": os.cpu_count(), "load_before": before, "cpu_us_a_piece": medians, "all": taken}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "streams.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
