"""The schema: which version a database has, and its way to the newest. One process migrates, the others wait."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from harness.store.backend import Backend
from tasks.errors import StoreError

_MIGRATIONS = Path(__file__).with_name("migrations")


def newest() -> str:
    """The version that this Spurline writes: that of its last migration."""
    return max(path.name[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def version(connection: Connection) -> str | None:
    """The database's version; None where it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def is_current(found: str | None, name: str) -> bool:
    """Whether there is nothing to migrate. StoreError for a version beyond ours."""
    head = newest()
    if found is not None and found > head:
        raise StoreError(
            f"{name} was written by a newer Spurline (schema {found}, this one knows {head})",
            hint="upgrade Spurline, or move the database away",
        )
    return found == head


def migrate(engine: Engine, backend: Backend) -> None:
    """Bring the database to the newest version, whole or not at all. StoreError for one beyond it."""
    with engine.connect() as connection:
        if is_current(version(connection), backend.name):
            return
    # Alembic takes a while to import: only where there is something to migrate.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.execution_options(**backend.writing).begin() as connection:
        backend.lock(connection)
        # Another process may have done it while this one waited.
        if not is_current(version(connection), backend.name):
            config.attributes["connection"] = connection
            command.upgrade(config, newest())
