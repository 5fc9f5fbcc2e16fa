"""One SQLite file a service, built from the service's `schema.sql` and `seed.sql`.

With SHOP_DATA set the file stays in that folder from one start to the next; without, every process gets a
fresh one in a temporary folder of its own, so that any number of copies of a service can run side by side.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Database:
    """A connection that the threads of a service share, one at a time."""

    def __init__(self, file: str | Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = _as_dict
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def script(self, sql: str) -> None:
        """Run a script of several statements in one transaction."""
        with self._lock:
            self._connection.executescript(f"BEGIN;\n{sql};\nCOMMIT;")

    def all(self, sql: str, *values: Any) -> list[Row]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> Row | None:
        with self._lock:
            row: Row | None = self._connection.execute(sql, values).fetchone()
            return row

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: commits at the end, rolls back on an exception."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


def open_database(name: str, folder: Path) -> Database:
    """The database of service `name`, made from the scripts in `folder` where it does not exist yet."""
    kept = os.environ.get("SHOP_DATA")
    data = Path(kept) if kept else _own_folder(name)
    data.mkdir(parents=True, exist_ok=True)
    file = data / f"{name}.db"
    fresh = not file.exists()
    database = Database(file)
    if fresh:
        database.script((folder / "schema.sql").read_text())
        database.script((folder / "seed.sql").read_text())
    return database


def _own_folder(name: str) -> Path:
    # Until the server installs its own handler, a SIGTERM must still leave by the front door, for the clean-up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    prefix = f"shop-{name}-"
    _remove_orphans(prefix)
    folder = tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _remove_orphans(prefix: str) -> None:
    """Remove the folders of processes that were killed before they could do so themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*-*"):
        pid = folder.name.removeprefix(prefix).split("-")[0]
        if pid.isdecimal() and not _runs(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, but alive
    return True


def _as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}
