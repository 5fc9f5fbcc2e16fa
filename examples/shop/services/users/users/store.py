"""The users table."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.database import Database

_COLUMNS = "id, given_name, family_name, email, currency"


@dataclass(frozen=True)
class User:
    id: int
    given_name: str
    family_name: str
    email: str
    currency: str


class UserStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, user_id: int) -> User | None:
        row = self._database.one(f"SELECT {_COLUMNS} FROM users WHERE id = ?", user_id)
        return User(**row) if row else None

    def all(self, email: str | None = None) -> list[User]:
        rows = self._database.all(
            f"SELECT {_COLUMNS} FROM users WHERE ?1 IS NULL OR email = ?1 ORDER BY id", email
        )
        return [User(**row) for row in rows]
