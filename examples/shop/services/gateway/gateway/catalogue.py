"""Products and prices, from the two gRPC services that know them."""

from __future__ import annotations

from typing import Any

from chassis import rpc, telemetry
from contracts import inventory_pb2, pricing_pb2
from contracts.inventory_pb2_grpc import InventoryStub
from contracts.pricing_pb2_grpc import PricingStub


class Catalogue:
    def __init__(self, inventory: str, pricing: str) -> None:
        self._inventory = InventoryStub(rpc.channel(inventory))
        self._pricing = PricingStub(rpc.channel(pricing))

    def products(self, category: str) -> list[dict[str, Any]]:
        request = inventory_pb2.ListRequest(category=category)
        reply = rpc.call(self._inventory.List, request, telemetry.outgoing())
        return [_shown(product) for product in reply.products]

    def product(self, sku: str) -> dict[str, Any]:
        request = inventory_pb2.GetRequest(sku=sku)
        return _shown(rpc.call(self._inventory.Get, request, telemetry.outgoing()))

    def quote(self, user_id: int, items: list[tuple[str, int]]) -> dict[str, Any]:
        lines = [pricing_pb2.Line(sku=sku, quantity=quantity) for sku, quantity in items]
        request = pricing_pb2.QuoteRequest(user_id=user_id, lines=lines)
        reply = rpc.call(self._pricing.Quote, request, telemetry.outgoing())
        return {
            "lines": [
                {"sku": line.sku, "quantity": line.quantity, "line_cents": line.line_cents} for line in reply.lines
            ],
            "goods_cents": reply.goods_cents,
            "tier": reply.tier,
            "discount_cents": reply.discount_cents,
            "shipping_cents": reply.shipping_cents,
            "total_cents": reply.total_cents,
        }


def _shown(product: inventory_pb2.Product) -> dict[str, Any]:
    return {"sku": product.sku, "name": product.name, "category": product.category, "stock": product.stock}
