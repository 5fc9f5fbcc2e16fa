"""The ledger of charges."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from chassis.database import Database


@dataclass(frozen=True)
class Charge:
    id: str
    order_id: int
    customer_id: int
    amount_cents: int
    currency: str
    captured_on: str


class Ledger:
    def __init__(self, database: Database) -> None:
        self._database = database

    def capture(self, order_id: int, customer_id: int, amount_cents: int, currency: str) -> Charge:
        charge_id = f"ch_{secrets.token_hex(6)}"
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO charges (id, order_id, customer_id, amount_cents, currency) VALUES (?, ?, ?, ?, ?)",
                (charge_id, order_id, customer_id, amount_cents, currency),
            )
        made = self.find(charge_id)
        assert made is not None
        return made

    def find(self, charge_id: str) -> Charge | None:
        row = self._database.one("SELECT * FROM charges WHERE id = ?", charge_id)
        return Charge(**row) if row else None

    def of_customer(self, customer_id: int) -> list[Charge]:
        """The last hundred charges of a customer, oldest first."""
        rows = self._database.all(
            "SELECT * FROM (SELECT * FROM charges WHERE customer_id = ? ORDER BY captured_on DESC LIMIT 100)"
            " ORDER BY captured_on, id",
            customer_id,
        )
        return [Charge(**row) for row in rows]
