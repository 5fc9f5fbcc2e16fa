"""SQLite: one file, in which one transaction at a time writes. The default."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlmodel import Session

from harness.store.backend import BUSY_S
from tasks.errors import StoreError

_FILE: Final = "file"


@dataclass(frozen=True, slots=True)
class Sqlite:
    """The database at `path`. Implements harness.store.backend.Backend."""

    path: Path
    busy_s: float = BUSY_S

    errors: ClassVar[tuple[type[Exception], ...]] = (sqlite3.Error,)
    reading: ClassVar[Mapping[str, Any]] = {}
    # Who will write says so at once: another process's commit between a read and a write is answered "locked".
    writing: ClassVar[Mapping[str, Any]] = {"immediate": True}

    @property
    def name(self) -> str:
        return str(self.path)

    def connect(self) -> Engine:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreError(
                f"cannot make {self.path.parent}: {error.strerror}", hint="Spurline keeps its state there; let it write"
            ) from error
        engine = create_engine(
            f"sqlite:///{self.path}", connect_args={"timeout": self.busy_s, "check_same_thread": False}
        )
        event.listen(engine, "connect", self._opened)
        event.listen(engine, "begin", _begin)
        return engine

    def lock(self, connection: Connection) -> None:
        """Nothing: whoever writes has locked the file."""

    def mark(self, session: Session, writer: str, batch: int) -> bool:
        """True: a file's commit is never in doubt."""
        self.there(session)
        return True

    def there(self, session: Session) -> None:
        """SQLite goes on with a file that was removed, and says nothing."""
        if session.connection().connection.info[_FILE] != _identity(self.path):
            raise StoreError(
                f"{self.path} was removed or replaced while it was open",
                hint="put it back, or move all of its folder away to begin anew",
            )

    def now(self, session: Session) -> float:
        """By this machine's clock: there is no other."""
        return time.time()

    def leave(self, session: Session, writer: str) -> None:
        """Nothing was marked."""

    def passes(self, error: BaseException) -> bool:
        """False: a lock was waited for already."""
        return False

    def stands(self, connection: Connection) -> bool:
        """Where the disk is full, SQLite gives up the whole transaction, also what was written before."""
        driver: Any = connection.connection.driver_connection
        return bool(driver.in_transaction)

    def told(self, error: BaseException) -> StoreError:
        words, hint = str(error), ""
        if "full" in words:
            hint = "free some space on this disk; nothing that was noted before is lost"
        elif "locked" in words:
            hint = "another process holds the database; is a backup or an editor open on it?"
        elif "readonly" in words or "unable to open" in words:
            hint = f"Spurline needs to write to {self.path.parent}"
        elif "no such table" in words or "no such column" in words or "malformed" in words:
            hint = f"the database is damaged; move {self.path} away to begin anew"
        return StoreError(f"{self.path}: {words}", hint=hint)

    def _opened(self, connection: Any, record: Any) -> None:
        _configure(connection)
        record.info[_FILE] = _identity(self.path)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _configure(connection: Any) -> None:
    # We say BEGIN ourselves: sqlite3's own begins too late for a savepoint.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "journal_size_limit=67108864"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Any) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
