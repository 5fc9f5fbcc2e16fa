"""Products, prices and discounts, as the web shop sees them."""

from __future__ import annotations

from typing import Any


def test_products_of_one_category_are_listed(shop: Any) -> None:
    products = shop.get("/products?category=biscuits").json["products"]
    assert {product["sku"] for product in products} == {"bisc-01", "bisc-02"}


def test_a_product_has_a_page(shop: Any) -> None:
    assert shop.get("/products/tea-02").json["name"] == "Assam"
    assert shop.get("/products/tea-99").status == 404


def test_silver_members_pay_five_percent_less(shop: Any) -> None:
    quote = shop.get("/quote?user=2&sku=tea-01&quantity=10").json
    assert quote["tier"] == "silver"
    assert quote["goods_cents"] == 8400
    assert quote["discount_cents"] == 420


def test_shipping_is_flat(shop: Any) -> None:
    for quantity in (1, 10):
        assert shop.get(f"/quote?user=4&sku=tea-01&quantity={quantity}").json["shipping_cents"] == 490
