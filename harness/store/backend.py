"""What SQLite and PostgreSQL do each in its own way. All else is the same for both: `harness.store.database`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import Connection, Engine
from sqlmodel import Session

from tasks.errors import StoreError, UsageError

BUSY_S: Final = 30.0
"""How long a file that another process holds is waited for."""

if TYPE_CHECKING:
    from harness.store.postgres import Postgres


class Backend(Protocol):
    """One place in which a store can be."""

    @property
    def name(self) -> str:
        """What messages call it: a path, or a URL without its secrets."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What its driver raises."""

    @property
    def reading(self) -> Mapping[str, Any]:
        """Execution options of a reader: all that it reads is of one moment."""

    @property
    def writing(self) -> Mapping[str, Any]:
        """Execution options of a writer: what it has read holds until its commit."""

    def connect(self) -> Engine:
        """The engine. Raises StoreError, also later, by way of `told`."""

    def lock(self, connection: Connection) -> None:
        """Hold off every other process that would migrate, until the transaction of `connection` ends."""

    def mark(self, session: Session, writer: str, batch: int) -> bool:
        """Note in the transaction that it is this batch's. False: the batch was committed before."""

    def there(self, session: Session) -> None:
        """StoreError where what is open is no longer the database that has its name."""

    def now(self, session: Session) -> float:
        """What time it is for leases, in seconds since the epoch: the same for all who share the store."""

    def leave(self, session: Session, writer: str) -> None:
        """Forget the marks of a writer that ends."""

    def passes(self, error: BaseException) -> bool:
        """Whether to try again: the connection was lost, or another process stood in the way."""

    def stands(self, connection: Connection) -> bool:
        """Whether the transaction is still there, after an error in it."""

    def told(self, error: BaseException) -> StoreError:
        """What the driver raised, in the database's own words, with the way out that fits them."""


def backend_of(place: Path | str, *, patience_s: float = BUSY_S) -> Backend:
    """SQLite for a path, PostgreSQL for a URL. UsageError where that cannot be used. A file that another process holds
    is waited for as long as there is patience, within bounds."""
    if isinstance(place, Path):
        from harness.store.sqlite import Sqlite

        return Sqlite(place, max(1.0, min(patience_s, BUSY_S)))
    return postgres_at(place)


def postgres_at(url: str) -> Postgres:
    """UsageError for what is no URL of a PostgreSQL, and where the extra is not installed."""
    try:
        from harness.store.postgres import Postgres
    except ImportError as error:
        raise UsageError(
            f"a store in PostgreSQL needs what is not installed: {error}",
            hint="install `spurline[postgres]`, as in `uv tool install 'spurline[postgres]'`",
        ) from None
    return Postgres.at(url)
