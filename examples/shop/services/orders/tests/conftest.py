"""The neighbours, faked: just enough to place an order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chassis.database import Database
from chassis.refusal import Refusal
from chassis.web import App
from directory import User
from orders.api import create_app
from orders.checkout import Checkout
from orders.neighbours import Charge, Quote
from orders.store import OrderLine, OrderStore

SCHEMA = Path(__file__).parents[1] / "schema.sql"


@dataclass
class Town:
    """All neighbours in one, and what they were asked."""

    refuses_charges: bool = False
    stock: dict[str, int] = field(default_factory=lambda: {"a": 5})
    reserved: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    mails: list[tuple[str, str]] = field(default_factory=list)

    def find(self, user_id: int) -> User:
        if user_id != 7:
            raise Refusal(404, f"there is no user {user_id}")
        return User(7, "Ada Lovelace", "ada@example.com", "GBP")

    def quote(self, user_id: int, items: Sequence[tuple[str, int]]) -> Quote:
        lines = tuple(OrderLine(sku, quantity, 100 * quantity) for sku, quantity in items)
        return Quote(lines, sum(line.line_cents for line in lines))

    def reserve(self, items: Sequence[tuple[str, int]]) -> str:
        for sku, quantity in items:
            self.stock[sku] -= quantity
        self.reserved[f"r{len(self.reserved)}"] = list(items)
        return f"r{len(self.reserved) - 1}"

    def release(self, reservation: str) -> bool:
        for sku, quantity in self.reserved[reservation]:
            self.stock[sku] += quantity
        return True

    def charge(self, order_id: int, user: User, amount_cents: int) -> Charge:
        if self.refuses_charges:
            raise Refusal(402, "the payment was not accepted")
        return Charge("ch_1", user.currency or "")

    def send(self, to: str, template: str, data: Any) -> bool:
        self.mails.append((to, template))
        return True


@pytest.fixture()
def town() -> Town:
    return Town()


@pytest.fixture()
def app(tmp_path: Path, town: Town) -> App:
    database = Database(tmp_path / "orders.db")
    database.script(SCHEMA.read_text())
    store = OrderStore(database)
    neighbours: Any = town
    checkout = Checkout(store, neighbours, neighbours, neighbours, neighbours, neighbours)
    return create_app(store, checkout)
