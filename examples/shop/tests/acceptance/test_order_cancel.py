"""Ticket order-cancel."""

from __future__ import annotations

from typing import Any


def test_a_paid_order_is_cancelled(shop: Any) -> None:
    order = shop.order(user=7)
    answer = shop.post(f"/orders/{order['id']}/cancel")
    assert answer.status == 200, answer.text
    assert answer.json["status"] == "cancelled"
    assert shop.get(f"/orders/{order['id']}").json["status"] == "cancelled"


def test_an_order_is_cancelled_once(shop: Any) -> None:
    order = shop.order(user=7)
    shop.post(f"/orders/{order['id']}/cancel")
    again = shop.post(f"/orders/{order['id']}/cancel")
    assert again.status == 409
    assert "cancelled" in again.json["error"]


def test_an_unknown_order_is_404(shop: Any) -> None:
    assert "there is no order 1" in shop.post("/orders/1/cancel").text
