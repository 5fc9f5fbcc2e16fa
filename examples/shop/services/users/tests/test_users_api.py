from __future__ import annotations

from pathlib import Path

import pytest

from chassis.database import Database
from chassis.web import App
from users.api import create_app
from users.store import UserStore

SCHEMA = Path(__file__).parents[1] / "schema.sql"


@pytest.fixture()
def app(tmp_path: Path) -> App:
    database = Database(tmp_path / "users.db")
    database.script(SCHEMA.read_text())
    database.script(
        "INSERT INTO users (id, given_name, family_name, email, currency)"
        " VALUES (1, 'Alan', 'Turing', 'alan@example.com', 'GBP')"
    )
    return create_app(UserStore(database))


def test_a_user_is_shown(app: App) -> None:
    answer = app.call("GET", "/v1/users/1")
    assert answer.status == 200
    assert answer.json["name"] == "Alan Turing"
    assert answer.json["currency"] == "GBP"


def test_the_service_says_what_it_speaks(app: App) -> None:
    assert app.call("GET", "/versions").json == {"versions": ["v1"]}


def test_v1_says_that_it_is_deprecated(app: App) -> None:
    assert app.call("GET", "/v1/users/1").headers["deprecation"] == "true"


@pytest.mark.parametrize("unknown", ["2", "alan"])
def test_an_unknown_user_is_404(app: App, unknown: str) -> None:
    answer = app.call("GET", f"/v1/users/{unknown}")
    assert answer.status == 404
    assert unknown in answer.json["error"]


def test_users_are_found_by_email(app: App) -> None:
    found = app.call("GET", "/v1/users?email=alan@example.com").json["users"]
    assert [user["id"] for user in found] == [1]
    assert app.call("GET", "/v1/users?email=nobody@example.com").json["users"] == []
