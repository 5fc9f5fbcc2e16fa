"""Ticket bulk-discount. User 6 has no member's discount, user 2 (silver) has five percent."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("user", "sku", "quantity", "discount_cents"),
    [
        (6, "tea-01", 9, 0),
        (6, "tea-01", 10, 420),
        (6, "tea-02", 11, 338),
        (2, "tea-01", 9, 378),
        (2, "tea-01", 10, 420 + 399),
        (2, "tea-02", 13, 399 + 379),
    ],
)
def test_ten_of_a_kind_are_cheaper(shop: Any, user: int, sku: str, quantity: int, discount_cents: int) -> None:
    quote = shop.get(f"/quote?user={user}&sku={sku}&quantity={quantity}").json
    assert quote["discount_cents"] == discount_cents
    assert quote["total_cents"] == quote["goods_cents"] - discount_cents + quote["shipping_cents"]


def test_other_lines_cost_what_they_did(shop: Any) -> None:
    items = [{"sku": "tea-01", "quantity": 10}, {"sku": "mug-01", "quantity": 1}]
    order = shop.post("/orders", {"user": 6, "items": items}).json
    assert order["total_cents"] == 8400 - 420 + 1200 + 490
