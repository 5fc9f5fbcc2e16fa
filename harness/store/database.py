"""The database: opened, migrated, written by one thread, read by anyone.

SQLite answers "database is locked" to sessions that read and then write side by side, so all writes of a process go
through one thread; what came together is committed together. A write that fails fails alone (savepoints).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlmodel import Session

from tasks.errors import StoreError

Result = TypeVar("Result")
Write = Callable[[Session], Result]

HEAD: Final = "0002"
"""The newest migration. A database beyond it was made by a newer Spurline."""

_BATCH: Final = 500


class Database:
    """One open database. Use as an async context manager; `close` waits for what was queued."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _open(path)
        self._queue: queue.SimpleQueue[tuple[Write[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._closing, self._closed = threading.Lock(), False
        self._writer = threading.Thread(target=self._write_all, name="spurline-store", daemon=True)
        self._writer.start()

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Finish what is queued and let go. Idempotent."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._writer.join()
        self._engine.dispose()

    def post(self, write: Write[Result]) -> Future[Result]:
        """Queue `write`; the future is done when it is committed. StoreError after `close`."""
        future: Future[Result] = Future()
        # Under the lock nothing is queued behind the writer's last word, where nobody would ever take it up.
        with self._closing:
            if self._closed:
                raise StoreError(f"{self.path} is closed: nothing more can be noted in it")
            self._queue.put((write, future))
        return future

    async def write(self, write: Write[Result]) -> Result:
        """Run `write` in the writer's transaction; returns when it is on disk. Raises StoreError."""
        return await asyncio.wrap_future(self.post(write))

    async def read(self, read: Callable[[Session], Result]) -> Result:
        """Run `read` in a session of its own, in a thread. Raises StoreError."""
        return await asyncio.to_thread(self.read_now, read)

    def read_now(self, read: Callable[[Session], Result]) -> Result:
        """`read`, in this thread."""
        try:
            with Session(self._engine, expire_on_commit=False) as session:
                return read(session)
        except DBAPIError as error:
            raise store_error(str(error.orig), self.path) from error

    def _write_all(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ended = [first], False
            while len(batch) < _BATCH and not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    ended = True
                    break
                batch.append(more)
            self._commit(batch)
            if ended:
                break

    def _commit(self, batch: list[tuple[Write[Any], Future[Any]]]) -> None:
        # What nobody waits for any more is left out; from here on nobody can take his write back.
        batch = [(write, future) for write, future in batch if future.set_running_or_notify_cancel()]
        done: list[tuple[Future[Any], Any]] = []
        try:
            writing = self._engine.execution_options(immediate=True)
            with Session(writing, expire_on_commit=False) as session, session.begin():
                for write, future in batch:
                    try:
                        with session.begin_nested():
                            value = write(session)
                    except Exception as error:  # one write's fault is its own caller's, not its neighbours'
                        future.set_exception(self._told(error))
                    else:
                        done.append((future, value))
        except Exception as error:  # the commit itself: nobody's write is on disk
            for future, _ in done:
                future.set_exception(self._told(error))
            for _, future in batch:
                if not future.done():
                    future.set_exception(self._told(error))
            return
        for future, value in done:
            future.set_result(value)

    def _told(self, error: Exception) -> Exception:
        return store_error(str(error.orig), self.path) if isinstance(error, DBAPIError) else error


def store_error(words: str, path: Path) -> StoreError:
    """The database's own words, with the way out that fits them."""
    hint = ""
    if "full" in words:
        hint = "free some space on this disk; nothing that was noted before is lost"
    elif "locked" in words:
        hint = "another process holds the database; is a backup or an editor open on it?"
    elif "readonly" in words or "unable to open" in words:
        hint = f"Spurline needs to write to {path.parent}"
    elif "no such table" in words or "no such column" in words or "malformed" in words:
        hint = f"the database is damaged; move {path} away to begin anew"
    return StoreError(f"{path}: {words}", hint=hint)


def _open(path: Path) -> Engine:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"cannot make {path.parent}: {error.strerror}", hint="Spurline keeps its state there; let it write"
        ) from error
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30, "check_same_thread": False})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        _migrate(engine, path)
    except DBAPIError as error:
        engine.dispose()
        raise store_error(str(error.orig), path) from error
    return engine


def _configure(connection: Any, _: Any) -> None:
    # We say BEGIN ourselves: sqlite3's own begins too late for a savepoint.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "journal_size_limit=67108864"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Any) -> None:
    # Who will write says so at once: another process's commit between a read and a write is answered "locked".
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _migrate(engine: Engine, path: Path) -> None:
    version = _version(engine)
    if version == HEAD:
        return
    if version is not None and version > HEAD:
        raise StoreError(
            f"{path} was written by a newer Spurline (schema {version}, this one knows {HEAD})",
            hint="upgrade Spurline, or move the file away",
        )
    # Alembic takes a while to import: only where there is something to migrate.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["engine"] = engine
    command.upgrade(config, HEAD)


def _version(engine: Engine) -> str | None:
    try:
        with engine.connect() as connection:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except OperationalError as error:
        if "no such table" in str(error.orig):
            return None
        raise
