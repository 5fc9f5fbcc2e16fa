"""What customers see of themselves."""

from __future__ import annotations

from typing import Any


def test_a_customer_has_a_profile(shop: Any) -> None:
    assert shop.get("/users/4").json == {"id": 4, "name": "Konrad Zuse", "email": "konrad@example.com"}
    assert shop.get("/users/999").status == 404


def test_a_customer_sees_earlier_orders(shop: Any) -> None:
    orders = shop.get("/users/4/orders").json["orders"]
    assert [order["id"] for order in orders] == [1004]


def test_a_statement_lists_what_was_charged(shop: Any) -> None:
    statement = shop.get("/users/4/statement")
    assert statement.status == 200
    assert "17.30 EUR" in statement.text


def test_points_make_a_tier(shop: Any) -> None:
    assert shop.get("/loyalty/members/2").json["tier"] == "silver"
    assert shop.get("/loyalty/members/4").json["tier"] == "basic"
