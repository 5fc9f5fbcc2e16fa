"""The model of the benchmarks: the rehearsal server in a process of its own, which takes its time for each call."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from harness.agents.rehearsal.server import serve_rehearsal


def provider(folder: Path, copies: Mapping[str, str], latency_s: float, pipe: Connection) -> None:
    """Serve until the other end says so."""

    async def serve() -> None:
        async with serve_rehearsal(folder, copies=copies, latency_s=latency_s) as url:
            pipe.send(url)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(serve())


@asynccontextmanager
async def served(folder: Path, copies: Mapping[str, str], latency_s: float) -> AsyncIterator[str]:
    """The provider's URL. It plays the recordings of `folder`; a ticket of `copies` plays its original's."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=provider, args=(folder, copies, latency_s, theirs), daemon=True)
    process.start()
    try:
        yield await asyncio.to_thread(ours.recv)
    finally:
        ours.send(None)
        process.join()
