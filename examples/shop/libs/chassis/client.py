"""Calls to a neighbour over HTTP, inside the trace of the request that is being answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from chassis import telemetry
from chassis.refusal import Refusal


@dataclass(frozen=True)
class Reply:
    """What a neighbour answered."""

    status: int
    body: bytes
    content_type: str

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Neighbour:
    """One other service. An unreachable one refuses the request at hand with 503."""

    def __init__(self, name: str, url: str, timeout_s: float = 10.0) -> None:
        self.name = name
        self._address = urlsplit(url).netloc
        self._timeout_s = timeout_s

    def get(self, path: str) -> Reply:
        return self.send("GET", path)

    def post(self, path: str, json_body: Any) -> Reply:
        return self.send("POST", path, json.dumps(json_body).encode())

    def send(self, method: str, path: str, body: bytes | None = None) -> Reply:
        headers = {"accept": "application/json", **telemetry.outgoing()}
        if body is not None:
            headers["content-type"] = "application/json"
        connection = HTTPConnection(self._address, timeout=self._timeout_s)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Reply(response.status, response.read(), response.getheader("content-type", ""))
        except (OSError, HTTPException) as problem:
            raise Refusal(503, f"{self.name} cannot be reached", str(problem)) from problem
        finally:
            connection.close()
