"""From the basket to the charge, through the whole shop."""

from __future__ import annotations

from typing import Any

import pytest


def test_an_order_is_charged_in_the_currency_of_the_customer(shop: Any) -> None:
    order = shop.order(user=7)
    assert order["status"] == "paid"
    assert order["charged"] is True
    assert order["currency"] == "GBP"


def test_an_order_costs_what_the_quote_said(shop: Any) -> None:
    quote = shop.get("/quote?user=2&sku=tea-01&quantity=3").json
    order = shop.order(user=2, quantity=3)
    assert order["total_cents"] == quote["total_cents"]


def test_the_charge_of_an_order_is_in_the_ledger(shop: Any) -> None:
    order = shop.order(user=7)
    charge = shop.get(f"/charges/{order['charge']}", service="payments").json
    assert charge["order"] == order["id"]
    assert charge["amount_cents"] == order["total_cents"]


def test_an_order_is_found_again(shop: Any) -> None:
    order = shop.order(user=7, quantity=2)
    found = shop.get(f"/orders/{order['id']}")
    assert found.status == 200
    assert found.json["items"] == [{"sku": "tea-01", "quantity": 2, "line_cents": 1680}]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"user": 7, "items": []}, 422),
        ({"user": 7, "items": [{"sku": "tea-01", "quantity": 0}]}, 422),
        ({"user": 7, "items": [{"sku": "tea-99"}]}, 404),
        ({"user": 7, "items": [{"sku": "pot-01"}]}, 409),
        ({"user": 999, "items": [{"sku": "tea-01"}]}, 404),
    ],
)
def test_an_order_that_cannot_be_filled_is_refused(shop: Any, body: dict[str, Any], status: int) -> None:
    assert shop.post("/orders", body).status == status
