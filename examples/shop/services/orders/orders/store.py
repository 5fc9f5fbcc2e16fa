"""The orders and their lines."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from chassis.database import Database, Row


@dataclass(frozen=True)
class OrderLine:
    sku: str
    quantity: int
    line_cents: int


@dataclass(frozen=True)
class Order:
    id: int
    user_id: int
    status: str
    currency: str
    total_cents: int
    reservation: str
    charge: str
    lines: tuple[OrderLine, ...] = ()
    placed_at: str = ""


class OrderStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def next_id(self) -> int:
        """A number that nobody can count on: what we sell in a day is nobody's business."""
        return 10_000_000 + secrets.randbelow(2**40)

    def keep(self, order: Order) -> Order:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO orders (id, user_id, status, currency, total_cents, reservation, charge)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    order.id,
                    order.user_id,
                    order.status,
                    order.currency,
                    order.total_cents,
                    order.reservation,
                    order.charge,
                ),
            )
            connection.executemany(
                "INSERT INTO order_lines VALUES (?, ?, ?, ?)",
                [(order.id, line.sku, line.quantity, line.line_cents) for line in order.lines],
            )
        kept = self.find(order.id)
        assert kept is not None
        return kept

    def find(self, order_id: int) -> Order | None:
        row = self._database.one("SELECT * FROM orders WHERE id = ?", order_id)
        return self._with_lines(row) if row else None

    def of_user(self, user_id: int) -> list[Order]:
        """The last hundred orders of a user, oldest first."""
        rows = self._database.all(
            "SELECT * FROM (SELECT * FROM orders WHERE user_id = ? ORDER BY placed_at DESC LIMIT 100)"
            " ORDER BY placed_at, id",
            user_id,
        )
        return [self._with_lines(row) for row in rows]

    def _with_lines(self, row: Row) -> Order:
        lines = self._database.all(
            "SELECT sku, quantity, line_cents FROM order_lines WHERE order_id = ? ORDER BY rowid", row["id"]
        )
        return Order(**row, lines=tuple(OrderLine(**line) for line in lines))
