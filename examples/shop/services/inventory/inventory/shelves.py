"""Products, stock and reservations."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from chassis.database import Database, Row

_COLUMNS = "sku, name, category, stock"


class OutOfStock(Exception):
    """There is not enough of a product."""


class Shelves:
    def __init__(self, database: Database) -> None:
        self._database = database

    def products(self, category: str | None = None) -> list[Row]:
        return self._database.all(
            f"SELECT {_COLUMNS} FROM products WHERE ?1 IS NULL OR category = ?1 ORDER BY sku", category
        )

    def find(self, sku: str) -> Row | None:
        return self._database.one(f"SELECT {_COLUMNS} FROM products WHERE sku = ?", sku)

    def reserve(self, wanted: Sequence[tuple[str, int]]) -> str:
        """Take all of it off the shelves or nothing; the reservation's id."""
        reservation = secrets.token_hex(8)
        with self._database.transaction() as connection:
            for sku, quantity in wanted:
                taken = connection.execute(
                    "UPDATE products SET stock = stock - ?2 WHERE sku = ?1 AND stock >= ?2", (sku, quantity)
                )
                if taken.rowcount == 0:
                    raise OutOfStock(f"not enough of {sku!r} in stock")
                connection.execute("INSERT INTO reservations VALUES (?, ?, ?)", (reservation, sku, quantity))
        return reservation

    def release(self, reservation: str) -> bool:
        """Put it back; False if there is no such reservation."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "DELETE FROM reservations WHERE id = ? RETURNING sku, quantity", (reservation,)
            ).fetchall()
            for row in rows:
                connection.execute(
                    "UPDATE products SET stock = stock + ? WHERE sku = ?", (row["quantity"], row["sku"])
                )
        return bool(rows)
