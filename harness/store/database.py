"""The database: opened, migrated, written by one thread, read by anyone.

SQLite answers "database is locked" to sessions that read and then write side by side, so all writes of a process go
through one thread; what came together is committed together. A write that fails fails alone. Where the database goes
away, what was not committed is written again; a commit whose answer was lost is looked up first.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from harness.store.backend import backend_of
from harness.store.outage import PATIENCE_S, Outage
from harness.store.schema import is_current, migrate, version
from tasks.errors import StoreError

Result = TypeVar("Result")
Write = Callable[[Session], Result]

_BATCH: Final = 500
_LINGER_S: Final = 0.02
"""So long a write that nobody waits for may wait for others: a transaction costs more than a row."""


@dataclass(frozen=True, slots=True)
class _Queued(Generic[Result]):
    write: Write[Result]
    future: Future[Result]
    awaited: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one write of a batch came to."""

    value: Any = None
    error: Exception | None = None

    def tell(self, future: Future[Any]) -> None:
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self.value)


class _Spoilt(Exception):
    """A write of the batch failed, and with it those that were not kept apart."""


class Database:
    """One open database. Use as an async context manager; `close` waits for what was queued."""

    def __init__(self, place: Path | str, *, patience_s: float = PATIENCE_S) -> None:
        """SQLite at a path, or PostgreSQL at a URL. Raises StoreError, UsageError (for the URL).

        Once it is open, a database that goes away is waited for `patience_s` seconds.
        """
        self._backend = backend_of(place, patience_s=patience_s)
        self.name = self._backend.name
        self._engine = self._backend.connect()
        try:
            migrate(self._engine, self._backend)
        except Exception as error:
            self._engine.dispose()
            if isinstance(error, DBAPIError):
                raise self._told(error) from error
            raise
        self._reading = self._engine.execution_options(**self._backend.reading)
        self._writing = self._engine.execution_options(**self._backend.writing)
        # Not one for both: a standby answers readers only, and would have the writer wait for ever.
        self._unread, self._unwritten = Outage(patience_s), Outage(patience_s)
        self._id, self._batches = secrets.token_hex(8), 0
        self._queue: queue.SimpleQueue[_Queued[Any] | None] = queue.SimpleQueue()
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

    def post(self, write: Write[Result], *, awaited: bool = False) -> Future[Result]:
        """Queue `write`; the future is done when it is committed: at once where it is `awaited`, else soon. StoreError
        after `close`.

        It may be called again, where the first time came to nothing: it makes its rows itself, and changes nothing but
        its session.
        """
        future: Future[Result] = Future()
        # Under the lock nothing is queued behind the writer's last word, where nobody would ever take it up.
        with self._closing:
            if self._closed:
                raise StoreError(f"{self.name} is closed: nothing more can be noted in it")
            self._queue.put(_Queued(write, future, awaited))
        return future

    async def write(self, write: Write[Result]) -> Result:
        """Run `write` in the writer's transaction; returns when it is on disk. Raises StoreError."""
        return await asyncio.wrap_future(self.post(write, awaited=True))

    def now(self, session: Session) -> float:
        """What time it is for leases, asked in the transaction of a read or a write; see harness.store.backend."""
        return self._backend.now(session)

    async def read(self, read: Callable[[Session], Result]) -> Result:
        """Run `read` in a session of its own, in a thread. Raises StoreError."""
        return await asyncio.to_thread(self.read_now, read)

    def there(self, session: Session) -> None:
        """StoreError where the database that `session` reads is no longer the one that has its name."""
        self._backend.there(session)

    def known(self, session: Session) -> None:
        """StoreError where a newer Spurline has migrated it since it was opened."""
        is_current(version(session.connection()), self.name)

    def read_now(self, read: Callable[[Session], Result]) -> Result:
        """`read`, in this thread."""
        while True:
            try:
                with Session(self._reading, expire_on_commit=False) as session:
                    result = read(session)
            except DBAPIError as error:
                if not self._waited(self._unread, error):
                    raise self._told(error) from error
            else:
                self._unread.over()
                return result

    def _write_all(self) -> None:
        ended = False
        while not ended and (first := self._queue.get()) is not None:
            batch, ended = self._gathered(first)
            # What nobody waits for any more is left out; from here on nobody can take his write back.
            if wanted := [one for one in batch if one.future.set_running_or_notify_cancel()]:
                self._commit(wanted)
        if self._batches:
            # What stays behind of a writer is swept up by the next one: no reason to fail.
            with contextlib.suppress(DBAPIError), Session(self._writing) as session, session.begin():
                self._backend.leave(session, self._id)

    def _gathered(self, first: _Queued[Any]) -> tuple[list[_Queued[Any]], bool]:
        """What is queued by now, or until somebody waits for it; and whether that was the last."""
        batch, until = [first], time.monotonic() + _LINGER_S
        awaited = first.awaited
        while len(batch) < _BATCH:
            try:
                more = self._queue.get(timeout=0.0 if awaited else max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if more is None:
                return batch, True
            batch.append(more)
            awaited = awaited or more.awaited
        return batch, False

    def _commit(self, batch: Sequence[_Queued[Any]]) -> None:
        self._batches += 1
        outcomes: list[_Outcome] = []
        apart = False
        while True:
            try:
                self._attempt(batch, outcomes, apart=apart)
            except _Spoilt:
                # Seldom, so tried without savepoints first: now each for itself, to see whose fault it is.
                apart = True
                continue
            except Exception as error:  # nobody's write is on disk
                if self._waited(self._unwritten, error):
                    continue
                outcomes = [_Outcome(error=self._told(error)) for _ in batch]
            else:
                self._unwritten.over()
            break
        for one, outcome in zip(batch, outcomes, strict=True):
            outcome.tell(one.future)

    def _attempt(self, batch: Sequence[_Queued[Any]], outcomes: list[_Outcome], *, apart: bool) -> None:
        """Commit the batch, with each write's outcome in `outcomes`; those of the attempt before stand where that one
        was committed, though its answer was lost. Writes that are not kept `apart` cost less, and fail together."""
        with self._writing.connect() as connection:
            try:
                with Session(connection, expire_on_commit=False) as session, session.begin():
                    session.connection()
                    if self._backend.mark(session, self._id, self._batches):
                        if apart:
                            outcomes[:] = [self._alone(connection, session, one.write) for one in batch]
                        else:
                            outcomes[:] = self._together(session, batch)
            except Exception as error:
                if self._backend.passes(error):
                    # Whatever stood in the way, the next attempt takes another connection.
                    connection.invalidate()
                raise

    def _together(self, session: Session, batch: Sequence[_Queued[Any]]) -> list[_Outcome]:
        try:
            outcomes = [_Outcome(one.write(session)) for one in batch]
            session.flush()
        except Exception as error:
            if self._backend.passes(error):
                raise
            raise _Spoilt from error
        return outcomes

    def _alone(self, connection: Connection, session: Session, write: Write[Any]) -> _Outcome:
        try:
            with session.begin_nested():
                return _Outcome(write(session))
        except Exception as error:  # one write's fault is its own caller's, not its neighbours'
            if self._backend.passes(error):
                raise
            if not self._backend.stands(connection):
                raise _first(error) from None
            return _Outcome(error=self._told(error))

    def _waited(self, outage: Outage, error: Exception) -> bool:
        """Whether it is worth another attempt, after a pause that has passed by then."""
        pause_s = outage.pause_s() if self._backend.passes(error) else None
        if pause_s is not None:
            time.sleep(pause_s)
        return pause_s is not None

    def _told(self, error: Exception) -> Exception:
        return self._backend.told(error.orig) if isinstance(error, DBAPIError) and error.orig else error


def _first(error: BaseException) -> BaseException:
    """What the database said first: later it only misses the savepoint that went with the transaction."""
    while isinstance(error.__context__, DBAPIError):
        error = error.__context__
    return error


def look(place: Path | str) -> tuple[str, str | None]:
    """What the database at `place` is called, and its schema's version (None: it has none yet); nothing is changed.

    Raises StoreError, also for a version beyond ours, and UsageError for the URL.
    """
    backend = backend_of(place)
    engine = backend.connect()
    try:
        with engine.connect() as connection:
            found = version(connection)
        is_current(found, backend.name)
    except DBAPIError as error:
        raise backend.told(error.orig or error) from error
    finally:
        engine.dispose()
    return backend.name, found
