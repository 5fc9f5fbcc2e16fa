"""What a project's store says, read as anybody may: a SQLite file, or a database of a PostgreSQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg

from tests.postgres import Server


class Store(Protocol):
    """Where a project keeps its state."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What `query` finds. Nothing where there is no store yet, or where it cannot be reached."""

    def may_write(self) -> bool:
        """Whether nobody is in the middle of writing."""

    def users(self) -> list[str]:
        """Who has it open and does what, as far as the store can tell."""


@dataclass(frozen=True, slots=True)
class InFile:
    """SQLite at `path`."""

    path: Path

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30)) as store:
            try:
                return store.execute(query).fetchall()
            except sqlite3.OperationalError:
                return []

    def may_write(self) -> bool:
        with closing(sqlite3.connect(self.path, timeout=1)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return False
        return True

    def users(self) -> list[str]:
        """A file does not tell."""
        return []


@dataclass(frozen=True, slots=True)
class OnServer:
    """The database `name` of a PostgreSQL."""

    server: Server
    name: str

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        try:
            return self.server.execute(query, self.name, options="-c search_path=spurline")
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return []

    def may_write(self) -> bool:
        return not self._sessions("pid", "AND xact_start IS NOT NULL")

    def users(self) -> list[str]:
        return [f"{state}: {query}" for state, query in self._sessions("state, query")]

    def cut(self) -> int:
        """End every connection to it, as a failing network does; how many there were."""
        return len(self._sessions("pg_terminate_backend(pid)"))

    def _sessions(self, what: str, more: str = "") -> list[tuple[Any, ...]]:
        return self.server.execute(f"SELECT {what} FROM pg_stat_activity WHERE datname = '{self.name}' {more}")
