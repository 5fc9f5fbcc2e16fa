"""PostgreSQL: the store that many workers share. The only module that knows psycopg (extra `spurline[postgres]`).

Our tables are in the schema `spurline`, LangGraph's in one of their own. A password is never shown: all that messages
say of a place is `Postgres.name`, and libpq names host, port and user.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, LiteralString

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.string import StrDumper
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlmodel import Session

from harness.fields import store_address
from tasks.errors import StoreError, UsageError

SCHEMA: Final = "spurline"
POSITIONS: Final = "spurline_positions"
"""The schema of LangGraph's tables: they migrate themselves, in their own time."""

_LOCK: Final = 0x5B17
_POSITIONS_LOCK: Final = _LOCK + 1
"""Of its own: an index that is built beside others waits for whoever is in a transaction, even for one who waits."""
_DAY_S: Final = 86_400.0
_POLL_S: Final = 0.05

# A peer that is gone without a word is noticed within half a minute, by both sides: what the server believes to live
# keeps its locks. Whoever stops in the middle of a transaction gives its rows free after a minute.
_DEFAULTS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "spurline",
}
_STALLED: Final = (
    "-c idle_in_transaction_session_timeout=60000 "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=30000"  # no probe is sent while an answer of the server's is on its way
)

_PASSING: Final = ("08", "57P", "25P03", "53300", "40001", "40P01", "25006")
"""Beginnings of SQLSTATEs: connection, shutdown, time-outs, too many clients, two in each other's way, a standby."""

# Not when the transaction began: it may have waited since.
_NOW: Final = "extract(epoch FROM clock_timestamp())::float8"
_MARK: Final = text(
    f"INSERT INTO writers (id, batch, at) VALUES (:writer, :batch, {_NOW}) ON CONFLICT (id) DO UPDATE "
    "SET batch = excluded.batch, at = excluded.at WHERE writers.batch < excluded.batch RETURNING batch"
)


@dataclass(frozen=True, slots=True)
class Postgres:
    """The database at `url`. Implements harness.store.backend.Backend."""

    url: URL

    errors: ClassVar[tuple[type[Exception], ...]] = (psycopg.Error,)
    reading: ClassVar[Mapping[str, Any]] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    writing: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def at(cls, url: str) -> Postgres:
        """UsageError for what is no URL of a PostgreSQL; it never shows the URL."""
        try:
            parts = make_url(store_address(url))
        except (ArgumentError, ValueError):
            raise UsageError(
                "the store's URL cannot be used",
                hint="`store`, or SPURLINE_STORE, is like postgresql+psycopg://user@host/database",
            ) from None
        return cls(parts.set(drivername="postgresql+psycopg"))

    @property
    def name(self) -> str:
        query = {key: self.url.query[key] for key in ("host", "port") if key in self.url.query}
        bare = URL.create(
            "postgresql", self.url.username, None, self.url.host, self.url.port, self.url.database, query=query
        )
        return bare.render_as_string()

    def connect(self) -> Engine:
        engine = create_engine(self.url, connect_args=self._arguments(SCHEMA), use_native_hstore=False)
        event.listen(engine, "connect", lambda connection, _: connection.adapters.register_dumper(str, _NulFree))
        return engine

    def lock(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        # Not CREATE … IF NOT EXISTS: that asks for the right to create even where nothing is to be created.
        if connection.execute(text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}).scalar() is None:
            connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))

    def mark(self, session: Session, writer: str, batch: int) -> bool:
        """Waits for an earlier attempt whose connection was lost but that the server is still busy with."""
        connection = session.connection()
        if batch == 1:
            connection.execute(text(f"DELETE FROM writers WHERE at < {_NOW} - {_DAY_S}"))
        return connection.execute(_MARK, {"writer": writer, "batch": batch}).scalar() is not None

    def now(self, session: Session) -> float:
        """By the server's clock: those of the machines that share it differ."""
        return float(session.connection().execute(text(f"SELECT {_NOW}")).scalar_one())

    def there(self, session: Session) -> None:
        """A database that was dropped does not answer."""

    def leave(self, session: Session, writer: str) -> None:
        session.connection().execute(text("DELETE FROM writers WHERE id = :writer"), {"writer": writer})

    def passes(self, error: BaseException) -> bool:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, psycopg.Error):
            return False
        # What libpq itself says (no server, no answer, a connection that broke) has no SQLSTATE.
        lost = isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None
        return lost or (cause.sqlstate or "").startswith(_PASSING)

    def stands(self, connection: Connection) -> bool:
        return not connection.invalidated

    def told(self, error: BaseException) -> StoreError:
        words = " ".join(str(error).split())
        state = getattr(error, "sqlstate", None) or ""
        return StoreError(f"{self.name}: {words}", hint=_hint(state, words))

    async def positions(self) -> psycopg.AsyncConnection[DictRow]:
        """A connection for LangGraph's saver, in a schema of its own. Raises psycopg.Error."""
        _, arguments = self.url.get_dialect()().create_connect_args(self.url)
        connection = await psycopg.AsyncConnection.connect(
            **{**arguments, **self._arguments(POSITIONS)}, autocommit=True, prepare_threshold=0, row_factory=dict_row
        )
        connection.adapters.register_dumper(str, _NulFree)
        return connection

    @asynccontextmanager
    async def preparing(self, connection: psycopg.AsyncConnection[DictRow]) -> AsyncIterator[None]:
        """Hold off every other process while the saver makes or migrates its tables."""
        # Asked for again and again: a session that waits for a lock stands in the way of an index built beside it.
        while not await _one(connection, "SELECT pg_try_advisory_lock(%s)", _POSITIONS_LOCK):  # noqa: ASYNC110  # not our event
            await asyncio.sleep(_POLL_S)
        try:
            if await _one(connection, "SELECT to_regnamespace(%s)", POSITIONS) is None:
                await connection.execute(f"CREATE SCHEMA {POSITIONS}")
            yield
        finally:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (_POSITIONS_LOCK,))

    def _arguments(self, schema: str) -> dict[str, Any]:
        given = self.url.query
        options = f"{given.get('options', '')} -c search_path={schema} {_STALLED}".strip()
        return {**{name: value for name, value in _DEFAULTS.items() if name not in given}, "options": options}


class _NulFree(StrDumper):
    """PostgreSQL refuses the one character that agents and programs write by accident; SQLite keeps it."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


async def _one(connection: psycopg.AsyncConnection[DictRow], query: LiteralString, value: str | int) -> Any:
    """The one value that `query` answers."""
    row = await (await connection.execute(query, (value,))).fetchone()
    return None if row is None else next(iter(row.values()))


def _hint(state: str, words: str) -> str:
    if state == "53100" or "No space left" in words:
        return "free some space on the database's disk; nothing that was noted before is lost"
    if "authentication failed" in words or "no password supplied" in words:
        return "give the password in ~/.pgpass or PGPASSWORD, or the whole URL in SPURLINE_STORE"
    if "does not exist" in words and ("database" in words or "role" in words):
        return "make it first (`createdb`, `createuser`), or correct `store`"
    if state == "42501":
        return f"the user needs CREATE on the database, or the schemas {SCHEMA} and {POSITIONS} for its own"
    if state in ("42P01", "42703"):
        return f"the schema {SCHEMA} is damaged; restore it, or drop it to begin anew"
    if not state:
        return "is the database up, and is `store` (or SPURLINE_STORE) right?"
    return ""
