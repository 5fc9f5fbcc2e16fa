"""Positions of the ticket loop: LangGraph's checkpointers, one connection a process.

With SQLite the file is apart from the store, since it is rewritten at every step; with PostgreSQL the schema is.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver

from harness.store.backend import Backend, postgres_at
from harness.store.outage import Outage
from harness.store.sqlite import Sqlite

if TYPE_CHECKING:
    from harness.store.postgres import Postgres

Answer = TypeVar("Answer")


Fence = Callable[[str], None]
"""Given a thread's id; raises where it is no longer this process's to write."""


def _open(thread: str) -> None:
    return None


@asynccontextmanager
async def open_checkpoints(place: Path | str, fence: Fence = _open) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """The saver, with its tables, for a file or the URL of a PostgreSQL. Raises StoreError, as whatever the saver is
    asked for does, UsageError for the URL, and what `fence` raises before anything is written."""
    opened = _in_file(Sqlite(place)) if isinstance(place, Path) else _in_postgres(postgres_at(place))
    async with opened as saver:
        saver.fence = fence
        yield saver


class _Asked(BaseCheckpointSaver[str]):
    """What LangGraph asks of a saver while a graph runs. It passes on what a driver raises; we say it like ours, and
    wait for a database that went away: whatever is asked here may be asked twice."""

    backend: Backend
    outage: Outage
    fence: Fence = staticmethod(_open)

    async def ready(self) -> None:
        """See that there is a connection. Raises what the driver raises."""

    async def asked(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer. Raises StoreError."""
        while True:
            try:
                await self.ready()
                answer = await question()
            except self.backend.errors as error:
                pause_s = self.outage.pause_s() if self.backend.passes(error) else None
                if pause_s is None:
                    raise self.backend.told(error) from error
                await asyncio.sleep(pause_s)
            else:
                self.outage.over()
                return answer

    async def aget_tuple(self, *given: Any, **named: Any) -> Any:
        return await self.asked(partial(super().aget_tuple, *given, **named))

    async def aput(self, config: Any, *given: Any, **named: Any) -> Any:
        self.fence(config["configurable"]["thread_id"])
        return await self.asked(partial(super().aput, config, *given, **named))

    async def aput_writes(self, *given: Any, **named: Any) -> None:
        """Nothing. They are for steps of several nodes; ours have one, and its checkpoint follows at once."""


class _InThread(SqliteSaver):
    """Asked in one thread: the saver that LangGraph has for asyncio goes there and back four times for a question."""

    def __init__(self, connection: sqlite3.Connection, thread: Executor) -> None:
        super().__init__(connection)
        self._thread = thread

    async def there(self, question: Callable[..., Answer], *given: Any, **named: Any) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(question, *given, **named))

    async def aget_tuple(self, *given: Any, **named: Any) -> Any:
        return await self.there(self.get_tuple, *given, **named)

    async def aput(self, *given: Any, **named: Any) -> Any:
        return await self.there(self.put, *given, **named)


class _FileSaver(_Asked, _InThread):
    """Over a SQLite file."""


@asynccontextmanager
async def _in_file(backend: Sqlite) -> AsyncIterator[_Asked]:
    backend.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    opened = sqlite3.connect(backend.path, timeout=backend.busy_s, check_same_thread=False)
    with closing(opened) as connection, ThreadPoolExecutor(1, "positions") as thread:
        saver = _FileSaver(connection, thread)
        saver.backend, saver.outage = backend, Outage()

        def prepare() -> None:
            # The saver syncs at every commit; a lost step only costs its repetition.
            connection.execute("PRAGMA synchronous = NORMAL")
            saver.setup()

        await saver.asked(partial(saver.there, prepare))
        yield saver


@asynccontextmanager
async def _in_postgres(backend: Postgres) -> AsyncIterator[_Asked]:
    # In here: without the extra there is nothing to derive from.
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    class Saver(_Asked, AsyncPostgresSaver):
        async def ready(self) -> None:
            if self.conn.closed:
                async with self.lock:
                    if self.conn.closed:
                        self.conn = await backend.positions()

    try:
        connection = await backend.positions()
        saver = Saver(connection)
        saver.backend, saver.outage = backend, Outage()
        async with backend.preparing(connection):
            await saver.setup()
    except backend.errors as error:
        raise backend.told(error) from error
    try:
        yield saver
    finally:
        await saver.conn.close()
