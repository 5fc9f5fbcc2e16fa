from __future__ import annotations

from typing import Any

import pytest

from chassis.web import App

ORDER: dict[str, Any] = {"user": 7, "items": [{"sku": "a", "quantity": 2}]}


def test_an_order_is_placed_charged_and_found_again(app: App, town: Any) -> None:
    placed = app.call("POST", "/orders", ORDER)
    assert placed.status == 201
    assert placed.json["charged"] is True
    assert placed.json["total_cents"] == 200
    assert app.call("GET", f"/orders/{placed.json['id']}").json == placed.json
    assert town.stock == {"a": 3}
    assert town.mails == [("ada@example.com", "order_paid")]


def test_a_refused_charge_puts_the_goods_back(app: App, town: Any) -> None:
    town.refuses_charges = True
    answer = app.call("POST", "/orders", ORDER)
    assert answer.status == 402
    assert town.stock == {"a": 5}
    assert app.call("GET", "/orders?user=7").json["orders"] == []


@pytest.mark.parametrize(
    "body", [{}, {"user": "7", "items": [{"sku": "a"}]}, {"user": 7, "items": []}, {"user": 7, "items": ["a"]}]
)
def test_an_order_that_makes_no_sense_is_refused(app: App, body: dict[str, Any]) -> None:
    assert app.call("POST", "/orders", body).status == 422


def test_orders_of_a_user_come_oldest_first(app: App) -> None:
    placed = [app.call("POST", "/orders", ORDER).json["id"] for _ in range(2)]
    listed = [order["id"] for order in app.call("GET", "/orders?user=7").json["orders"]]
    assert sorted(listed) == sorted(placed)


def test_unknown_orders_and_users_are_404(app: App) -> None:
    assert app.call("GET", "/orders/1").status == 404
    assert app.call("POST", "/orders", {**ORDER, "user": 8}).status == 404
