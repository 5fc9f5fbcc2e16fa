"""The users service as its neighbours see it.

It says which versions of its interface it speaks, and `/v2` is preferred. The answer is not kept: the users service
that answers the next request may be another one.
"""

from __future__ import annotations

from dataclasses import dataclass

from chassis.client import Neighbour, Reply
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
        spoken = _expect(self._users.get("/versions")).json["versions"]
        version = "v2" if "v2" in spoken else "v1"
        reply = self._users.get(f"/{version}/users/{user_id}")
        if reply.status == 404:
            raise Refusal(404, f"there is no user {user_id}")
        record = _expect(reply).json
        name = record.get("name") or f"{record['given_name']} {record['family_name']}"
        return User(record["id"], name, record["email"], record.get("currency"))


def _expect(reply: Reply) -> Reply:
    if not reply.ok:
        raise Refusal(502, "users failed", f"users answered {reply.status}")
    return reply
