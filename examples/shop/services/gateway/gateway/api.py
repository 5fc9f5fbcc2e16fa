"""What shoppers and their browsers can ask for."""

from __future__ import annotations

import json
from typing import Any, Protocol
from urllib.parse import urlencode

from chassis.client import Neighbour, Reply
from chassis.refusal import Refusal
from chassis.web import Answer, App, Request
from directory import Directory


class Shelf(Protocol):
    """What the gateway needs to know of products and prices; see `gateway.catalogue`."""

    def products(self, category: str) -> list[dict[str, Any]]: ...
    def product(self, sku: str) -> dict[str, Any]: ...
    def quote(self, user_id: int, items: list[tuple[str, int]]) -> dict[str, Any]: ...


def create_app(
    directory: Directory, catalogue: Shelf, orders: Neighbour, loyalty: Neighbour, legacy: Neighbour
) -> App:
    app = App("gateway")

    @app.route("GET", "/users/{user_id}")
    def profile(request: Request, user_id: str) -> Answer:
        user = directory.find(_number(user_id, "user"))
        return Answer({"id": user.id, "name": user.name, "email": user.email})

    @app.route("GET", "/users/{user_id}/orders")
    def history(request: Request, user_id: str) -> Answer:
        return _passed_on(orders.get(f"/orders?user={_number(user_id, 'user')}"))

    @app.route("GET", "/products")
    def products(request: Request) -> Answer:
        return Answer({"products": catalogue.products(request.query.get("category", ""))})

    @app.route("GET", "/products/{sku}")
    def product(request: Request, sku: str) -> Answer:
        return Answer(catalogue.product(sku))

    @app.route("GET", "/quote")
    def quote(request: Request) -> Answer:
        quantity = _number(request.query.get("quantity", "1"), "quantity")
        user_id = _number(request.query.get("user", ""), "user")
        return Answer(catalogue.quote(user_id, [(request.query.get("sku", ""), quantity)]))

    @app.route("*", "/orders{rest*}")
    def any_order(request: Request, rest: str) -> Answer:
        return forward(request, orders, f"/orders{rest}")

    @app.route("POST", "/orders")
    def place(request: Request) -> Answer:
        return forward(request, orders, "/orders")

    @app.route("*", "/loyalty{rest*}")
    def club(request: Request, rest: str) -> Answer:
        return forward(request, loyalty, rest)

    @app.route("GET", "/users/{user_id}/statement")
    def statement(request: Request, user_id: str) -> Answer:
        return _passed_on(legacy.get(f"/statement?{urlencode({'customer': _number(user_id, 'user')})}"))

    return app


def forward(request: Request, neighbour: Neighbour, path: str) -> Answer:
    """Hand the request to a neighbour and its answer back, unchanged."""
    target = f"{path}?{urlencode(request.query)}" if request.query else path
    return _passed_on(neighbour.send(request.method, target, request.body or None))


def _passed_on(reply: Reply) -> Answer:
    if reply.content_type.startswith("application/json"):
        return Answer(json.loads(reply.body), reply.status)
    return Answer(status=reply.status, text=reply.body.decode(errors="replace"))


def _number(text: str, what: str) -> int:
    if not text.isdecimal():
        raise Refusal(422, f"{what} must be a number")
    return int(text)
