"""The tools that show the running system: requests through the sandbox, its services' logs, its failing exchanges.

They go through the driver and the keyed ingress, so the model never holds a routing key. Before the first fork there is
nothing to show, and they say so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx
from pydantic import Field

from harness.agents.anthropic.tools import Declined, Tool, ToolInput, own_tool
from sandbox.driver import Cursor, Driver, Sandbox
from sandbox.exchanges import Exchange, body_text, redact_headers
from sandbox.hops import trace
from tasks.errors import SandboxError

_LOG_LINES: Final = 200
_EXCHANGES: Final = 20
_REQUEST_TIMEOUT_S: Final = 30.0
_NOT_YET: Final = (
    "Your sandbox does not run yet: it is started from your change when you end your turn. "
    "Until then work with the code and its unit tests."
)


class RequestInput(ToolInput):
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    path: str = Field(pattern="^/", description="with its query, if any")
    service: str | None = Field(default=None, description="whom to ask; the system's entry unless given")
    headers: dict[str, str] | None = None
    body: Any = Field(default=None, alias="json", description="sent as JSON")


class LogsInput(ToolInput):
    service: str


class NoInput(ToolInput):
    pass


@dataclass(frozen=True, slots=True)
class RunningSystem:
    """What the tools of one agent look at."""

    driver: Driver
    http: httpx.AsyncClient
    sandbox: str
    entry: str
    since: Cursor
    """From where on exchanges are the agent's news: those of the last validation, and after."""

    def tools(self) -> list[Tool]:
        return [
            own_tool(
                "sandbox_request",
                "Send one request into your sandbox, as its clients would, and see the answer and every hop that it "
                "took: which service asked which, and whether your fork or the baseline answered. Redirects are not "
                "followed.",
                RequestInput,
                self._request,
                doing=lambda given: f"{given.get('method', '')} {given.get('path', '')}",
                reads_only=False,
            ),
            own_tool(
                "sandbox_logs",
                f"The last {_LOG_LINES} log lines of a service: of your fork, or of the baseline's where you did not "
                "change that service.",
                LogsInput,
                self._logs,
                doing=lambda given: str(given.get("service", "")),
            ),
            own_tool(
                "sandbox_exchanges",
                "The requests of the last validation, and of your own since, that were answered with an error, as "
                "the service that was asked saw and answered them.",
                NoInput,
                self._exchanges,
            ),
        ]

    async def _forked(self) -> Sandbox:
        try:
            sandbox = await self.driver.get(self.sandbox)
        except SandboxError:
            raise Declined(_NOT_YET) from None
        if not sandbox.forks:
            raise Declined(_NOT_YET)
        return sandbox

    async def _request(self, given: RequestInput) -> str:
        sandbox = await self._forked()
        url = _known(given.service or self.entry, sandbox.urls)
        since = await self.driver.cursor()
        try:
            response = await self.http.request(
                given.method,
                f"{url.rstrip('/')}{given.path}",
                headers=given.headers,
                json=given.body,
                timeout=_REQUEST_TIMEOUT_S,
            )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Declined(f"no answer: {type(error).__name__}: {error}") from None
        window = await self.driver.window(self.sandbox, since)
        headers = redact_headers(response.headers.multi_items())
        body, cut = body_text(response.content)
        lines = [f"HTTP {response.status_code}", *_header_lines(headers), "", body + (" … (cut)" if cut else "")]
        return "\n".join([*lines, "", "Hops:", *(f"  {hop.shown()}" for hop in trace(window.hops))])

    async def _logs(self, given: LogsInput) -> str:
        sandbox = await self._forked()
        _known(given.service, sandbox.urls)
        owner = self.sandbox if given.service in sandbox.forks else None
        lines = await self.driver.logs(given.service, sandbox=owner)
        whose = "your fork" if owner else "the baseline"
        return "\n".join([f"{given.service} ({whose}):", *(line.text for line in lines[-_LOG_LINES:])])

    async def _exchanges(self, _: NoInput) -> str:
        await self._forked()
        window = await self.driver.window(self.sandbox, self.since)
        if not window.exchanges:
            return "No request of your sandbox was answered with an error."
        return "\n\n".join(_exchange(one) for one in window.exchanges[-_EXCHANGES:])


def _known(service: str, urls: Mapping[str, str]) -> str:
    if service not in urls:
        raise Declined(f"there is no service {service!r}; services: {', '.join(sorted(urls))}")
    return urls[service]


def _header_lines(headers: Mapping[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in headers.items()]


def _exchange(one: Exchange) -> str:
    status = f"{one.status}" if one.grpc_status is None else f"{one.status} (gRPC status {one.grpc_status})"
    said = [f"{one.caller} → {one.service}  {one.method} {one.path}  {status}"]
    for title, body in (("request", one.request_body), ("response", one.response_body)):
        if body:
            said.append(f"  {title}: {_compact(body)}")
    return "\n".join(said)


def _compact(body: str) -> str:
    try:
        return json.dumps(json.loads(body), ensure_ascii=False)
    except ValueError:
        return body
