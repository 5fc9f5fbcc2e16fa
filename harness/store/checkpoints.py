"""Positions of the ticket loop: LangGraph's checkpointer over a SQLite file of its own, one a process."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiosqlite
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from harness.store.database import store_error


@asynccontextmanager
async def open_checkpoints(path: Path) -> AsyncIterator[AsyncSqliteSaver]:
    """The saver, with its tables. The file is apart from the store: it is rewritten at every step. Raises StoreError,
    as whatever the saver is asked for does."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with aiosqlite.connect(path) as connection:
        saver = _Saver(connection, path)
        with saver.told():
            # The saver sets no time-out for locks and syncs at every commit; a lost step only costs its repetition.
            await saver.conn.execute("PRAGMA busy_timeout = 30000")
            await saver.conn.execute("PRAGMA synchronous = NORMAL")
            await saver.setup()
        yield saver


class _Saver(AsyncSqliteSaver):
    """A full disk is the environment's fault, and said like one; LangGraph passes on what SQLite raised."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        super().__init__(connection)
        self._path = path

    @contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise store_error(str(error), self._path) from error

    async def aget_tuple(self, *given: Any, **named: Any) -> Any:
        with self.told():
            return await super().aget_tuple(*given, **named)

    async def aput(self, *given: Any, **named: Any) -> Any:
        with self.told():
            return await super().aput(*given, **named)

    async def aput_writes(self, *given: Any, **named: Any) -> None:
        with self.told():
            await super().aput_writes(*given, **named)
