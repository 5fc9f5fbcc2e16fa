"""What a sandbox said: log lines and failing exchanges, once or as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from harness.cli.connection import live, named
from harness.cli.documents import clock, exchange_document
from harness.cli.output import Output, Styled
from harness.project import Project
from sandbox.driver import Cursor, Driver, LogLine, Sandbox
from sandbox.exchanges import Exchange
from tasks.errors import UsageError

POLL_S: Final = 0.5
_START: Final = Cursor(at=0.0, offset=0, dropped=0)


async def print_logs(
    project: Project, name: str, service: str | None, since: float, out: Output, *, follow: bool
) -> None:
    """Lines of all forks, or of one service, in the order of time."""
    async with live(project.root) as driver:
        sandbox = await named(driver, name)
        services = _services(service, sandbox, project, out)
        width = max((len(one) for one in services), default=0)
        async for said_by, line in _lines(driver, sandbox, services, since, follow=follow):
            if out.json:
                out.object({"at": line.at, "service": said_by, "line": line.text})
            else:
                label = f"{said_by:<{width}}  " if len(services) > 1 else ""
                out.line(f"{clock(line.at)}  {label}{line.text}")


def _services(service: str | None, sandbox: Sandbox, project: Project, out: Output) -> list[str]:
    if service is None:
        if not sandbox.forks:
            out.note(f"{sandbox.name} has no forks; --service SERVICE shows what the baseline's service writes")
        return list(sandbox.forks)
    known = project.settings.baseline.services
    if service not in known:
        raise UsageError(f"there is no service {service!r}", hint=f"services: {', '.join(known)}")
    if service not in sandbox.forks:
        out.note(f"{sandbox.name} has no fork of {service}: these are the baseline's lines")
    return [service]


async def _lines(
    driver: Driver, sandbox: Sandbox, services: Sequence[str], since: float, *, follow: bool
) -> AsyncIterator[tuple[str, LogLine]]:
    newest = dict.fromkeys(services, since)
    seen: dict[str, list[LogLine]] = {service: [] for service in services}
    while True:
        found: list[tuple[str, LogLine]] = []
        for service in services:
            owner = sandbox.name if service in sandbox.forks else None
            lines = await driver.logs(service, sandbox=owner, since=newest[service])
            found += [(service, line) for line in unseen(lines, seen[service])]
            if lines:
                newest[service] = lines[-1].at
                # The next answer begins with the lines of this very moment once more.
                seen[service] = [line for line in lines if line.at == lines[-1].at]
        for pair in sorted(found, key=lambda pair: pair[1].at):
            yield pair
        if not follow:
            return
        await asyncio.sleep(POLL_S)
        await driver.get(sandbox.name)


def unseen(lines: Sequence[LogLine], seen: Sequence[LogLine]) -> list[LogLine]:
    """`lines` without those of `seen`, each taken away once: equal lines may come twice."""
    left = list(seen)
    fresh = []
    for line in lines:
        if line in left:
            left.remove(line)
        else:
            fresh.append(line)
    return fresh


async def print_exchanges(project: Project, name: str, out: Output, *, follow: bool) -> None:
    """Failing exchanges since the sandbox was made, then as they come."""
    async with live(project.root) as driver:
        await named(driver, name)
        since, count = _START, 0
        before: tuple[Exchange, ...] = ()
        while True:
            # Taken first: what is recorded between the two calls comes twice, and is known then.
            following = await driver.cursor()
            window = await driver.window(name, since)
            for exchange in window.exchanges:
                if exchange not in before:
                    count += 1
                    _print_exchange(exchange, out)
            since, before = following, window.exchanges
            if not follow:
                break
            await asyncio.sleep(POLL_S)
        if not count:
            out.note(f"no exchange of {name} has failed")


def _print_exchange(exchange: Exchange, out: Output) -> None:
    if out.json:
        out.object(exchange_document(exchange))
        return
    grpc = f", gRPC status {exchange.grpc_status}" if exchange.grpc_status else ""
    head = f"{clock(exchange.at)}  {exchange.caller} → {exchange.service}  {exchange.method} {exchange.path}"
    out.line(Styled(f"{head}  {exchange.status}{grpc}", "bold"))
    for sign, headers, body in (
        (">", exchange.request_headers, exchange.request_body),
        ("<", exchange.response_headers, exchange.response_body),
    ):
        for header, value in headers.items():
            out.line(Styled(f"  {sign} {header}: {value}", "dim"))
        for line in body.splitlines():
            out.line(f"  {sign}   {line}")
    if exchange.truncated:
        out.line(Styled("  (bodies were cut)", "dim"))
    out.line()
