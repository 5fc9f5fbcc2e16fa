"""The shop as these tests see it: addresses, nothing else. SPURLINE_URL or `make up` says where it is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

PORTS = {"gateway": 8080, "users": 8081, "orders": 8082, "payments": 8083, "loyalty": 8084, "notifications": 8085}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Shop:
    """Requests to the gateway, or to the service that is named."""

    def get(self, path: str, service: str = "gateway") -> Answer:
        return self.send("GET", path, None, service)

    def post(self, path: str, body: Any = None, service: str = "gateway") -> Answer:
        return self.send("POST", path, {} if body is None else body, service)

    def send(self, method: str, path: str, body: Any, service: str) -> Answer:
        connection = HTTPConnection(urlsplit(self.url(service)).netloc, timeout=30)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"content-type": "application/json"})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read().decode())
        finally:
            connection.close()

    def url(self, service: str) -> str:
        name = "SPURLINE_URL" if service == "gateway" else f"SPURLINE_URL_{service.upper()}"
        return os.environ.get(name, f"http://127.0.0.1:{PORTS[service]}")

    def order(self, user: int = 7, **item: Any) -> dict[str, Any]:
        """Place an order that must be accepted."""
        answer = self.post("/orders", {"user": user, "items": [{"sku": "tea-01", "quantity": 1, **item}]})
        assert answer.status == 201, f"no order: {answer.status} {answer.text}"
        placed: dict[str, Any] = answer.json
        return placed


@pytest.fixture(scope="session")
def shop() -> Shop:
    return Shop()
