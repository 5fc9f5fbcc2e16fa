from __future__ import annotations

from pathlib import Path

import pytest

from chassis.database import Database
from inventory.shelves import OutOfStock, Shelves

SCHEMA = Path(__file__).parents[1] / "schema.sql"


@pytest.fixture()
def shelves(tmp_path: Path) -> Shelves:
    database = Database(tmp_path / "inventory.db")
    database.script(SCHEMA.read_text())
    database.script("INSERT INTO products VALUES ('a', 'Apple', 'fruit', 3), ('b', 'Beet', 'roots', 1)")
    return Shelves(database)


def stock(shelves: Shelves) -> dict[str, int]:
    return {row["sku"]: row["stock"] for row in shelves.products()}


def test_products_are_listed_by_category(shelves: Shelves) -> None:
    assert [row["sku"] for row in shelves.products()] == ["a", "b"]
    assert [row["sku"] for row in shelves.products("roots")] == ["b"]


def test_a_reservation_takes_stock_and_a_release_returns_it(shelves: Shelves) -> None:
    reservation = shelves.reserve([("a", 2), ("b", 1)])
    assert stock(shelves) == {"a": 1, "b": 0}
    assert shelves.release(reservation)
    assert stock(shelves) == {"a": 3, "b": 1}
    assert not shelves.release(reservation)


def test_too_little_of_one_product_reserves_nothing(shelves: Shelves) -> None:
    with pytest.raises(OutOfStock, match="'b'"):
        shelves.reserve([("a", 1), ("b", 2)])
    assert stock(shelves) == {"a": 3, "b": 1}
