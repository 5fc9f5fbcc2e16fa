"""The neighbours of the orders service, in its own words."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chassis import rpc, telemetry
from chassis.client import Neighbour
from chassis.refusal import Refusal
from contracts import inventory_pb2, pricing_pb2
from contracts.inventory_pb2_grpc import InventoryStub
from contracts.pricing_pb2_grpc import PricingStub
from directory import User
from orders.store import OrderLine


@dataclass(frozen=True)
class Quote:
    lines: tuple[OrderLine, ...]
    total_cents: int


@dataclass(frozen=True)
class Charge:
    id: str
    currency: str


class Pricing:
    def __init__(self, address: str) -> None:
        self._stub = PricingStub(rpc.channel(address))

    def quote(self, user_id: int, items: Sequence[tuple[str, int]]) -> Quote:
        lines = [pricing_pb2.Line(sku=sku, quantity=quantity) for sku, quantity in items]
        request = pricing_pb2.QuoteRequest(user_id=user_id, lines=lines)
        reply = rpc.call(self._stub.Quote, request, telemetry.outgoing())
        priced = tuple(OrderLine(line.sku, line.quantity, line.line_cents) for line in reply.lines)
        return Quote(priced, reply.total_cents)


class Inventory:
    def __init__(self, address: str) -> None:
        self._stub = InventoryStub(rpc.channel(address))

    def reserve(self, items: Sequence[tuple[str, int]]) -> str:
        wanted = [inventory_pb2.Item(sku=sku, quantity=quantity) for sku, quantity in items]
        request = inventory_pb2.ReserveRequest(items=wanted)
        reservation: str = rpc.call(self._stub.Reserve, request, telemetry.outgoing()).id
        return reservation

    def release(self, reservation: str) -> bool:
        request = inventory_pb2.Reservation(id=reservation)
        released: bool = rpc.call(self._stub.Release, request, telemetry.outgoing()).released
        return released


class Payments:
    def __init__(self, payments: Neighbour) -> None:
        self._payments = payments

    def charge(self, order_id: int, user: User, amount_cents: int) -> Charge:
        """What a shopper hears of a refused charge is only that: reasons of the bank are not ours to tell."""
        customer = {"id": user.id, "currency": user.currency}
        body = {"order": order_id, "customer": customer, "amount_cents": amount_cents}
        reply = self._payments.post("/charges", body)
        if not reply.ok:
            raise Refusal(402, "the payment was not accepted")
        return Charge(reply.json["id"], reply.json["currency"])


class Notifications:
    """Best effort: an order is an order, whether the mail goes out or not."""

    def __init__(self, notifications: Neighbour) -> None:
        self._notifications = notifications

    def send(self, to: str, template: str, data: Mapping[str, object]) -> bool:
        try:
            reply = self._notifications.post("/messages", {"to": to, "template": template, "data": data})
        except Refusal as problem:
            print(f"orders: no {template} mail: {problem.error}", file=sys.stderr, flush=True)
            return False
        if not reply.ok:
            print(f"orders: no {template} mail: answered {reply.status}", file=sys.stderr, flush=True)
        return reply.ok
