from __future__ import annotations

import json
from typing import Any

import pytest

from chassis.client import Reply
from chassis.refusal import Refusal
from chassis.web import App
from directory import User
from gateway.api import create_app


class Echo:
    """A neighbour that answers with what it was asked."""

    def send(self, method: str, path: str, body: bytes | None = None) -> Reply:
        answer = {"asked": f"{method} {path}", "body": (body or b"").decode()}
        return Reply(200, json.dumps(answer).encode(), "application/json")

    def get(self, path: str) -> Reply:
        return self.send("GET", path)


class OldPrinter:
    """A neighbour that answers plain text."""

    def get(self, path: str) -> Reply:
        return Reply(200, f"statement of {path}".encode(), "text/plain")


class Users:
    def find(self, user_id: int) -> User:
        if user_id != 7:
            raise Refusal(404, f"there is no user {user_id}")
        return User(7, "Ada Lovelace", "ada@example.com", "GBP")


class Shelf:
    def products(self, category: str) -> list[dict[str, Any]]:
        return [{"sku": "a", "category": category}]

    def product(self, sku: str) -> dict[str, Any]:
        return {"sku": sku, "name": "Apple", "category": "fruit", "stock": 3}

    def quote(self, user_id: int, items: list[tuple[str, int]]) -> dict[str, Any]:
        return {"user": user_id, "items": items}


@pytest.fixture()
def app() -> App:
    echo: Any = Echo()
    users: Any = Users()
    printer: Any = OldPrinter()
    return create_app(users, Shelf(), orders=echo, loyalty=echo, legacy=printer)


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("POST", "/orders", "POST /orders"),
        ("GET", "/orders/12", "GET /orders/12"),
        ("POST", "/orders/12/cancel", "POST /orders/12/cancel"),
        ("GET", "/loyalty/members/7", "GET /members/7"),
        ("GET", "/users/7/orders", "GET /orders?user=7"),
    ],
)
def test_requests_are_handed_on(app: App, method: str, path: str, asked: str) -> None:
    assert app.call(method, path, {} if method == "POST" else None).json["asked"] == asked


def test_a_profile_shows_no_currency(app: App) -> None:
    assert app.call("GET", "/users/7").json == {"id": 7, "name": "Ada Lovelace", "email": "ada@example.com"}
    assert app.call("GET", "/users/8").status == 404
    assert app.call("GET", "/users/ada").status == 422


def test_plain_text_stays_plain_text(app: App) -> None:
    assert app.call("GET", "/users/7/statement").text == "statement of /statement?customer=7"


def test_a_quote_is_asked_for_one_product(app: App) -> None:
    assert app.call("GET", "/quote?user=7&sku=a&quantity=2").json == {"user": 7, "items": [("a", 2)]}
    assert app.call("GET", "/quote?sku=a").status == 422
