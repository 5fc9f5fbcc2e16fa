"""asyncio-pool, wrapped once.

Its `spawn` swallows cancellation while it waits for a slot, its callbacks and cancelled jobs have surprises of their
own (docs/decisions/0004). So we never let it wait: a job is spawned only into a slot that is free, cancellation is
delivered to our own task around the job, and results travel through our own futures. Its own size cannot be changed:
ours is that of the gate before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from asyncio_pool import AioPool

from harness.engine.gates import Gate

_MOST: Final = 10_000


class Pool:
    """At most `size` jobs at once. Leaving the block cancels what still runs and waits for it."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError("a pool needs at least one slot")
        self._pool = AioPool(_MOST)
        self._slots = Gate("agents", size)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def running(self) -> int:
        """Jobs at work now."""
        return len(self._tasks)

    @property
    def size(self) -> int:
        """Jobs at once, at most. A size that shrinks ends no job."""
        return self._slots.limit

    @size.setter
    def size(self, size: int) -> None:
        self._slots.limit = min(size, _MOST)

    async def start(self, job: Callable[[], Awaitable[None]], name: str) -> asyncio.Future[None]:
        """Wait for a slot (cancellable), then run the job in it; the future ends with the job."""
        place = AsyncExitStack()
        await place.enter_async_context(self._slots.place(name))
        if self._closed:
            await place.aclose()
            raise RuntimeError("the pool is closed")
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(_run(job))
        task.set_name(name)
        self._tasks.add(task)
        await self._pool.spawn(self._guard(task, ended, place))
        return ended

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await self._pool.join()

    async def _guard(self, task: asyncio.Task[None], ended: asyncio.Future[None], place: AsyncExitStack) -> None:
        await asyncio.wait([task])
        self._tasks.discard(task)
        await place.aclose()
        if ended.done():
            return
        if task.cancelled():
            ended.cancel()
        elif (error := task.exception()) is not None:
            ended.set_exception(error)
        else:
            ended.set_result(None)


async def _run(job: Callable[[], Awaitable[None]]) -> None:
    await job()
