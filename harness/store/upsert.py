"""Rows that two processes may write at the same time: the database decides who was first, not a read before."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect
from sqlmodel import Session, SQLModel


def keep(session: Session, row: SQLModel) -> None:
    """Insert `row`, unless there is one with its primary key."""
    insert = _insert(session, row)
    session.connection().execute(insert.on_conflict_do_nothing(index_elements=_key(row)))


def replace(session: Session, row: SQLModel, *unique: str) -> None:
    """Insert `row`, or put it in the place of the one with its primary key, or with the same `unique` columns."""
    insert, same = _insert(session, row), unique or _key(row)
    new = {name: insert.excluded[name] for name in row.model_dump() if name not in (*same, *_key(row))}
    session.connection().execute(insert.on_conflict_do_update(index_elements=same, set_=new))


def _insert(session: Session, row: SQLModel) -> Any:
    """The insert in the dialect's own form; a key that the database is to give is left out."""
    if session.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]  # the same in all that is used of it
    key = _key(row)
    values = {name: value for name, value in row.model_dump().items() if value is not None or name not in key}
    return insert(type(row)).values(values)


def _key(row: SQLModel) -> tuple[str, ...]:
    return tuple(column.name for column in inspect(type(row)).primary_key)
