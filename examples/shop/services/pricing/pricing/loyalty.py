"""Asks the loyalty service for a member's discount. The trace goes on: `traceparent` is handed over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Discount:
    tier: str
    percent: int


class LoyaltyClient:
    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        self._address = urlsplit(url).netloc
        self._timeout_s = timeout_s

    def discount(self, user_id: int, traceparent: str | None) -> Discount:
        """Raises OSError when the loyalty service cannot be asked or does not know."""
        connection = HTTPConnection(self._address, timeout=self._timeout_s)
        try:
            headers = {"traceparent": traceparent} if traceparent else {}
            connection.request("GET", f"/members/{user_id}", headers=headers)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(f"loyalty answered {response.status}")
        member = json.loads(body)
        return Discount(member["tier"], member["discount_percent"])
