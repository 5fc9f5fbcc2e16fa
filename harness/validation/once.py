"""Answers that are found once and shared by all who ask; what failed, or was cancelled, is tried anew by the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Once(Generic[K, T]):
    """The answers by key, and the tasks that find them. Close it to end those that still run."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[T]] = {}

    async def get(self, key: K, find: Callable[[], Coroutine[Any, Any, T]], *, name: str) -> T:
        """The answer; where there is none yet, by a task `name` that runs `find`. What `find` raises passes."""
        task = self._tasks.get(key)
        if task is None or (task.done() and not self.knows(key)):
            task = self._tasks[key] = asyncio.create_task(find(), name=name)
        # One asker that is cancelled must not take the answer from the others.
        return await asyncio.shield(task)

    def knows(self, key: K) -> bool:
        """Whether the answer is there already."""
        task = self._tasks.get(key)
        return task is not None and task.done() and not task.cancelled() and task.exception() is None

    def forget(self, key: K) -> None:
        """Have the next who asks get a new answer."""
        self._tasks.pop(key, None)

    async def aclose(self) -> None:
        """Cancel what still runs and wait for its end."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        self._tasks.clear()
