"""Ticket refunds."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture()
def charge(shop: Any) -> str:
    body = {"order": 1, "customer": {"id": 6, "currency": "GBP"}, "amount_cents": 1000}
    made: str = shop.post("/charges", body, service="payments").json["id"]
    return made


def refund(shop: Any, charge: str, amount_cents: int | None = None) -> Any:
    body = {} if amount_cents is None else {"amount_cents": amount_cents}
    return shop.post(f"/charges/{charge}/refunds", body, service="payments")


def test_a_part_is_refunded(shop: Any, charge: str) -> None:
    answer = refund(shop, charge, 300)
    assert answer.status == 201, answer.text
    assert answer.json["charge"] == charge
    shown = shop.get(f"/charges/{charge}", service="payments").json
    assert (shown["refunded_cents"], shown["status"]) == (300, "partly refunded")


def test_all_that_is_left_is_refunded(shop: Any, charge: str) -> None:
    refund(shop, charge, 300)
    assert refund(shop, charge).json["amount_cents"] == 700
    assert shop.get(f"/charges/{charge}", service="payments").json["status"] == "refunded"


def test_a_refund_is_not_larger_than_the_charge(shop: Any, charge: str) -> None:
    assert refund(shop, charge, 1001).status == 409


def test_refunds_together_are_not_larger_than_the_charge(shop: Any, charge: str) -> None:
    assert refund(shop, charge, 600).status == 201
    assert refund(shop, charge, 600).status == 409
