from __future__ import annotations

from pathlib import Path

import pytest

from chassis.database import Database
from pricing.prices import PriceList

SCHEMA = Path(__file__).parents[1] / "schema.sql"


@pytest.fixture()
def prices(tmp_path: Path) -> PriceList:
    database = Database(tmp_path / "pricing.db")
    database.script(SCHEMA.read_text())
    database.script("INSERT INTO prices VALUES ('a', 100), ('b', 33); INSERT INTO shipping VALUES (1, 490)")
    return PriceList(database)


def test_a_total_is_goods_less_discount_plus_shipping(prices: PriceList) -> None:
    quote = prices.quote([("a", 3), ("b", 1)], discount_percent=10)
    assert quote.goods_cents == 333
    assert quote.discount_cents == 33
    assert quote.total_cents == 333 - 33 + 490


def test_a_product_without_a_price_is_named(prices: PriceList) -> None:
    with pytest.raises(KeyError, match="'c'"):
        prices.quote([("c", 1)], discount_percent=0)
