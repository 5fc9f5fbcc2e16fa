"""Many starts at once, of which either all succeed or none is kept; and steps that cancellation must not split."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order. When one fails, or the caller is cancelled, the others are cancelled and awaited, and
    what failed first is raised. What had succeeded by then is lost: each work undoes itself when cancelled, and a
    caller that must undo finished ones keeps its own list."""
    tasks = [asyncio.ensure_future(work) for work in works]
    if not tasks:
        return []
    failed: list[BaseException] = []
    for task in tasks:
        task.add_done_callback(lambda t: failed.append(t.exception() or RuntimeError()) if _failed(t) else None)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await unsplit(asyncio.wait(tasks))
    if failed:
        raise failed[0]
    return [task.result() for task in tasks]


async def unsplit(step: Awaitable[T]) -> T:
    """The result of a step that runs to its end even where the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        raise


def _failed(task: asyncio.Future[Any]) -> bool:
    return not task.cancelled() and task.exception() is not None
