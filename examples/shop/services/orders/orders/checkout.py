"""How an order is placed: look up, quote, reserve, charge, keep, tell the customer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.refusal import Refusal
from directory import Directory
from orders.neighbours import Inventory, Notifications, Payments, Pricing
from orders.store import Order, OrderStore


@dataclass(frozen=True)
class Checkout:
    store: OrderStore
    directory: Directory
    pricing: Pricing
    inventory: Inventory
    payments: Payments
    notifications: Notifications

    def place(self, user_id: int, items: Sequence[tuple[str, int]]) -> Order:
        """The order, paid; refuses with the status of whoever said no, and keeps nothing then."""
        user = self.directory.find(user_id)
        quote = self.pricing.quote(user.id, items)
        reservation = self.inventory.reserve(items)
        order_id = self.store.next_id()
        try:
            charge = self.payments.charge(order_id, user, quote.total_cents)
        except Refusal:
            self.inventory.release(reservation)
            raise
        order = self.store.keep(
            Order(
                id=order_id,
                user_id=user.id,
                status="paid",
                currency=charge.currency,
                total_cents=quote.total_cents,
                reservation=reservation,
                charge=charge.id,
                lines=quote.lines,
            )
        )
        total = f"{order.total_cents / 100:.2f} {order.currency}"
        self.notifications.send(user.email, "order_paid", {"name": user.name, "order": order.id, "total": total})
        return order
