from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chassis.database import Database
from chassis.web import App
from payments.api import create_app
from payments.ledger import Ledger

SCHEMA = Path(__file__).parents[1] / "schema.sql"
GOOD: dict[str, Any] = {"order": 1, "customer": {"id": 7, "currency": "EUR"}, "amount_cents": 450}


@pytest.fixture()
def app(tmp_path: Path) -> App:
    database = Database(tmp_path / "payments.db")
    database.script(SCHEMA.read_text())
    return create_app(Ledger(database))


def test_a_charge_is_captured_and_found_again(app: App) -> None:
    made = app.call("POST", "/charges", GOOD)
    assert made.status == 201
    assert made.json["status"] == "captured"
    assert app.call("GET", f"/charges/{made.json['id']}").json == made.json


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"amount_cents": 0}, "amount_cents"),
        ({"amount_cents": "450"}, "amount_cents"),
        ({"customer": {"currency": "EUR"}}, "customer.id"),
        ({"customer": {"id": 7}}, "customer.currency"),
        ({"customer": {"id": 7, "currency": "Euro"}}, "customer.currency"),
    ],
)
def test_a_charge_that_makes_no_sense_is_refused(app: App, change: dict[str, Any], complaint: str) -> None:
    answer = app.call("POST", "/charges", {**GOOD, **change})
    assert answer.status == 400
    assert complaint in answer.json["detail"]


def test_charges_are_listed_by_customer(app: App) -> None:
    app.call("POST", "/charges", GOOD)
    assert len(app.call("GET", "/charges?customer=7").json["charges"]) == 1
    assert app.call("GET", "/charges?customer=8").json["charges"] == []
    assert app.call("GET", "/charges").status == 400
