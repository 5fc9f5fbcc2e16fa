"""The HTTP interface of the orders service."""

from __future__ import annotations

from typing import Any

from chassis.refusal import Refusal
from chassis.web import Answer, App, Request
from orders.checkout import Checkout
from orders.store import Order, OrderStore


def create_app(store: OrderStore, checkout: Checkout) -> App:
    app = App("orders")

    @app.route("POST", "/orders")
    def place(request: Request) -> Answer:
        body = request.json
        return Answer(_shown(checkout.place(_user(body), _items(body))), 201)

    @app.route("GET", "/orders/{order_id}")
    def show(request: Request, order_id: str) -> Answer:
        return Answer(_shown(_find(store, order_id)))

    @app.route("GET", "/orders")
    def of_user(request: Request) -> Answer:
        user = request.query.get("user", "")
        if not user.isdecimal():
            raise Refusal(400, "say whose orders: ?user=ID")
        return Answer({"orders": [_shown(order) for order in store.of_user(int(user))]})

    return app


def _user(body: dict[str, Any]) -> int:
    user = body.get("user")
    if not isinstance(user, int):
        raise Refusal(422, "user must be an integer")
    return user


def _items(body: dict[str, Any]) -> list[tuple[str, int]]:
    items = body.get("items")
    if not isinstance(items, list) or not items:
        raise Refusal(422, "an order needs items")
    try:
        return [(str(item["sku"]), int(item.get("quantity", 1))) for item in items]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Refusal(422, "an item is {sku, quantity}") from None


def _find(store: OrderStore, order_id: str) -> Order:
    order = store.find(int(order_id)) if order_id.isdecimal() else None
    if order is None:
        raise Refusal(404, f"there is no order {order_id}")
    return order


def _shown(order: Order) -> dict[str, Any]:
    return {
        "id": order.id,
        "user": order.user_id,
        "status": order.status,
        "charged": bool(order.charge),
        "charge": order.charge,
        "currency": order.currency,
        "total_cents": order.total_cents,
        "placed_at": order.placed_at,
        "items": [
            {"sku": line.sku, "quantity": line.quantity, "line_cents": line.line_cents} for line in order.lines
        ],
    }
