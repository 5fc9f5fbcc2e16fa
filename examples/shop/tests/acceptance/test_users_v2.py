"""Ticket users-v2."""

from __future__ import annotations

from typing import Any


def test_v2_serves_given_and_family_name(shop: Any) -> None:
    user = shop.get("/v2/users/7", service="users").json
    assert (user["given_name"], user["family_name"]) == ("Ada", "Lovelace")
    assert "name" not in user


def test_v2_finds_users_by_email(shop: Any) -> None:
    found = shop.get("/v2/users?email=grace@example.com", service="users").json["users"]
    assert [user["family_name"] for user in found] == ["Hopper"]


def test_the_service_says_that_it_speaks_v2_only(shop: Any) -> None:
    assert shop.get("/versions", service="users").json == {"versions": ["v2"]}


def test_v1_is_gone_and_names_its_successor(shop: Any) -> None:
    answer = shop.get("/v1/users/7", service="users")
    assert answer.status == 410
    assert answer.headers["link"] == '</v2/users/7>; rel="successor-version"'
