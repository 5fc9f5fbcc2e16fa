from __future__ import annotations

from pathlib import Path

import pytest

from chassis.database import Database
from chassis.web import App
from loyalty.api import create_app
from loyalty.members import Members

SCHEMA = Path(__file__).parents[1] / "schema.sql"


@pytest.fixture()
def app(tmp_path: Path) -> App:
    database = Database(tmp_path / "loyalty.db")
    database.script(SCHEMA.read_text())
    database.script(
        "INSERT INTO tiers (name, min_points, discount_percent) VALUES ('basic', 0, 0), ('silver', 100, 5);"
        "INSERT INTO members (id, points) VALUES (1, 99), (2, 100)"
    )
    return create_app(Members(database))


@pytest.mark.parametrize(("member", "tier", "percent"), [(1, "basic", 0), (2, "silver", 5), (3, "basic", 0)])
def test_the_tier_follows_from_the_points(app: App, member: int, tier: str, percent: int) -> None:
    answer = app.call("GET", f"/members/{member}").json
    assert (answer["tier"], answer["discount_percent"]) == (tier, percent)


def test_a_member_has_a_number(app: App) -> None:
    assert app.call("GET", "/members/ada").status == 404
