from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chassis.database import Database
from chassis.web import App
from notifications.api import create_app
from notifications.outbox import Outbox

SCHEMA = Path(__file__).parents[1] / "schema.sql"
GOOD: dict[str, Any] = {"to": "alan@example.com", "template": "greeting", "data": {"name": "Alan"}}


@pytest.fixture()
def app(tmp_path: Path) -> App:
    database = Database(tmp_path / "notifications.db")
    database.script(SCHEMA.read_text())
    database.script("INSERT INTO templates (name, text) VALUES ('greeting', 'Hello {name}')")
    return create_app(Outbox(database))


def test_a_message_is_rendered_and_kept(app: App) -> None:
    answer = app.call("POST", "/messages", GOOD)
    assert answer.status == 202
    assert answer.json["text"] == "Hello Alan"
    (message,) = app.call("GET", "/messages?to=alan@example.com").json["messages"]
    assert message["text"] == "Hello Alan"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"to": "Alan"}, "e-mail"),
        ({"template": "farewell"}, "there is no template 'farewell'; there are: greeting"),
        ({"data": {}}, "needs 'name'"),
    ],
)
def test_a_message_that_cannot_be_written_is_refused(app: App, change: dict[str, Any], complaint: str) -> None:
    answer = app.call("POST", "/messages", {**GOOD, **change})
    assert answer.status == 422
    assert complaint in answer.json["detail"]
