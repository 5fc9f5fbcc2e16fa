"""A probe of the running baseline: harmless requests with a throw-away key, and what the router recorded of them.

Only requests that may be repeated are taken from checks and tickets (GET, HEAD, OPTIONS); others are sent where the
user names them. The sandbox of the probe is deleted whatever happens, and has a short lease in case nobody can.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx

from harness.discovery.forwarding import Forwarding, forwarding
from harness.project import Project
from sandbox.driver import Driver
from sandbox.service import System
from tasks.errors import ConfigError, UsageError
from tasks.ticket import Check, HttpCheck

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS: Final = _SAFE | {"POST", "PUT", "PATCH", "DELETE"}
_TTL_S: Final = 120.0
_TIMEOUT_S: Final = 10.0
_MAX_REQUESTS: Final = 60


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """One request of the probe."""

    service: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Probed:
    """What the probe saw."""

    forwarding: tuple[Forwarding, ...]
    sent: int
    unanswered: tuple[str, ...]
    """Requests that got no answer, with the reason."""
    dropped: int
    """Records that the router could not write: above zero the picture has holes."""


def parse_request(text: str, entry: str) -> ProbeRequest:
    """`GET /path`, or `POST /path {"json": 1}`, as a request to the entry. UsageError where it is neither."""
    method, _, rest = text.strip().partition(" ")
    path, _, body = rest.strip().partition(" ")
    if method.upper() not in _METHODS or not path.startswith("/"):
        raise UsageError(f"--request {text!r} is no request", hint="for example --request 'GET /orders/7'")
    if body.strip():
        try:
            json.loads(body)
        except ValueError as error:
            raise UsageError(f"--request {text!r}: the body is not valid JSON ({error})") from None
        return ProbeRequest(entry, method.upper(), path, (("content-type", "application/json"),), body.strip())
    return ProbeRequest(entry, method.upper(), path)


def known_requests(project: Project) -> list[ProbeRequest]:
    """The harmless requests that the project's checks and tickets hold, and the entry's `/`; each once."""
    entry = project.settings.baseline.entry
    found = [ProbeRequest(entry, "GET", "/")]
    found += _requests(_judging(project), entry)
    http2 = {name for name, service in project.settings.baseline.services.items() if service.protocol != "http1"}
    return list(dict.fromkeys(request for request in found if request.service not in http2))


async def probe(driver: Driver, system: System, requests: Sequence[ProbeRequest]) -> Probed:
    """Send the requests one after the other through the keyed ingress of a sandbox of its own."""
    name = f"doctor-{secrets.token_hex(4)}"
    sandbox = await driver.create(name, ttl_s=_TTL_S)
    try:
        since = await driver.cursor()
        unanswered = []
        async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S, follow_redirects=False) as client:
            for request in requests[:_MAX_REQUESTS]:
                problem = await _send(client, sandbox.urls[request.service], request)
                if problem is not None:
                    unanswered.append(f"{request.method} {request.path}: {problem}")
        window = await driver.window(name, since)
    finally:
        await driver.delete(name)
    judged = forwarding(system, window.hops, window.strays)
    return Probed(judged, len(requests[:_MAX_REQUESTS]), tuple(unanswered), window.dropped)


async def _send(client: httpx.AsyncClient, url: str, request: ProbeRequest) -> str | None:
    """None when it was answered, however; else why not."""
    target = url.rstrip("/") + request.path
    answered = False
    try:
        # A stream of events never ends by itself: once the head is there, the rest has its time and no more.
        async with (
            asyncio.timeout(_TIMEOUT_S),
            client.stream(request.method, target, headers=list(request.headers), content=request.body) as answer,
        ):
            answered = True
            async for _ in answer.aiter_raw():
                pass
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        return None if answered else str(error) or type(error).__name__
    return None


def _judging(project: Project) -> list[Check]:
    checks: list[Check] = []
    # Files that cannot be read are findings of their own; the probe goes on with the others.
    with suppress(ConfigError):
        checks += project.checks()
    with suppress(ConfigError):
        checks += [check for ticket in project.backlog() for check in ticket.checks.all]
    return checks


def _requests(checks: Iterable[Check], entry: str) -> list[ProbeRequest]:
    found = []
    for check in checks:
        if not isinstance(check, HttpCheck) or check.request.method not in _SAFE:
            continue
        request = check.request
        headers = dict(request.headers)
        body = request.body if request.json_body is None else _json(request.json_body, headers)
        found.append(ProbeRequest(request.service or entry, request.method, request.path, tuple(headers.items()), body))
    return found


def _json(value: Any, headers: dict[str, str]) -> str:
    headers.setdefault("content-type", "application/json")
    return json.dumps(value)
