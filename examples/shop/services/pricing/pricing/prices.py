"""The price list, and how a total is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.database import Database


@dataclass(frozen=True)
class PricedLine:
    sku: str
    quantity: int
    unit_cents: int

    @property
    def line_cents(self) -> int:
        return self.unit_cents * self.quantity


@dataclass(frozen=True)
class Quote:
    lines: tuple[PricedLine, ...]
    discount_cents: int
    shipping_cents: int

    @property
    def goods_cents(self) -> int:
        return sum(line.line_cents for line in self.lines)

    @property
    def total_cents(self) -> int:
        return self.goods_cents - self.discount_cents + self.shipping_cents


class PriceList:
    def __init__(self, database: Database) -> None:
        self._database = database

    def unit_cents(self, sku: str) -> int | None:
        row = self._database.one("SELECT unit_cents FROM prices WHERE sku = ?", sku)
        return row["unit_cents"] if row else None

    def shipping_cents(self) -> int:
        row = self._database.one("SELECT flat_cents FROM shipping")
        return row["flat_cents"] if row else 0

    def quote(self, wanted: Sequence[tuple[str, int]], discount_percent: int) -> Quote:
        """Prices of `wanted` (sku, quantity); KeyError names a sku without a price."""
        lines = []
        for sku, quantity in wanted:
            unit_cents = self.unit_cents(sku)
            if unit_cents is None:
                raise KeyError(sku)
            lines.append(PricedLine(sku, quantity, unit_cents))
        goods_cents = sum(line.line_cents for line in lines)
        return Quote(tuple(lines), goods_cents * discount_percent // 100, self.shipping_cents())
