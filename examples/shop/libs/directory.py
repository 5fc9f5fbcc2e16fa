"""The users service as its neighbours see it.

`/v2` is preferred, and `/v1` asked where a users service does not speak `/v2` yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from chassis.client import Neighbour
from chassis.refusal import Refusal


@dataclass(frozen=True)
class User:
    id: int
    name: str
    email: str
    currency: str | None
    """ISO 4217, what the user pays in."""


class Directory:
    """Looks users up."""

    def __init__(self, users: Neighbour) -> None:
        self._users = users

    def find(self, user_id: int) -> User:
        """The user, or a refusal with 404."""
        reply = self._users.get(f"/v2/users/{user_id}")
        if reply.status == 404:
            reply = self._users.get(f"/v1/users/{user_id}")
        if reply.status in (404, 410):
            raise Refusal(404, f"there is no user {user_id}")
        if not reply.ok:
            raise Refusal(502, "users failed", f"users answered {reply.status}")
        record = reply.json
        name = record.get("name") or f"{record['given_name']} {record['family_name']}"
        return User(record["id"], name, record["email"], record.get("currency"))
