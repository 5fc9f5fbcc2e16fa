"""Members and their tiers. Who has no points yet is a member of the lowest tier."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.database import Database


@dataclass(frozen=True)
class Member:
    id: int
    points: int
    tier: str
    discount_percent: int


class Members:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, member_id: int) -> Member:
        row = self._database.one("SELECT points FROM members WHERE id = ?", member_id)
        points: int = row["points"] if row else 0
        tier = self._database.one(
            "SELECT name, discount_percent FROM tiers WHERE min_points <= ? ORDER BY min_points DESC", points
        )
        assert tier is not None, "the lowest tier begins at 0 points"
        return Member(member_id, points, tier["name"], tier["discount_percent"])
