"""Ticket order-shipped."""

from __future__ import annotations

from typing import Any


def test_a_shipped_order_is_told_to_the_customer(shop: Any) -> None:
    order = shop.order(user=7)
    answer = shop.post(f"/orders/{order['id']}/ship")
    assert answer.status == 200, answer.text
    assert answer.json["status"] == "shipped"
    assert answer.json["notified"] is True
    mails = shop.get("/messages?to=ada@example.com", service="notifications").json["messages"]
    assert f"Good news, Ada Lovelace: order {order['id']} is on its way." in [mail["text"] for mail in mails]


def test_an_order_is_shipped_once(shop: Any) -> None:
    order = shop.order(user=7)
    shop.post(f"/orders/{order['id']}/ship")
    assert shop.post(f"/orders/{order['id']}/ship").status == 409
