"""Positions of the ticket loop: LangGraph's checkpointer over a SQLite file of its own, one a process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver


@asynccontextmanager
async def open_checkpoints(path: Path) -> AsyncIterator[AsyncSqliteSaver]:
    """The saver, with its tables. The file is apart from the store: it is rewritten at every step."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        # The saver sets no time-out for locks and syncs at every commit; a lost step only costs its repetition.
        await saver.conn.execute("PRAGMA busy_timeout = 30000")
        await saver.conn.execute("PRAGMA synchronous = NORMAL")
        await saver.setup()
        yield saver
