"""The running baseline: the router, and every service of the system started from a checkout of one commit.

A service that dies is never restarted silently: what was judged against this baseline would have been
judged against two.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from sandbox.driver import Baseline, Running, Source, Start
from sandbox.local import readiness
from sandbox.local.guard import Guard
from sandbox.local.logfile import LogFile
from sandbox.local.routes import Routes
from sandbox.local.together import together, unsplit
from sandbox.local.workload import HOST, Launcher, NotStarted, Workload
from sandbox.router import Router
from sandbox.service import CLIENT, Service, System
from tasks.errors import BaselineError, CheckoutError


class LocalBaseline:
    """One baseline. `start` once, `stop` once; `folder` is the driver's state."""

    def __init__(self, system: System, version: str, launcher: Launcher, guard: Guard, folder: Path) -> None:
        self.system, self.version = system, version
        self.routes = Routes(Router(folder / "router", system), guard)
        self.lease_ends: float | None = None
        """By the driver's clock; None: it stays."""
        self._launcher = launcher
        self._logs = folder / "logs" / "baseline"
        self._workloads: dict[str, Workload] = {}
        self._outside: dict[str, tuple[str, int]] = {}
        self._reached: dict[str, tuple[Literal["building", "starting", "awaited"], float]] = {}
        """What each service that is not ready has come to, and when by the monotonic clock."""
        self._health: asyncio.Task[dict[str, bool]] | None = None

    async def start(self) -> None:
        """Router up, then all services at once. BaselineError names the one that failed; nothing is left then."""
        ports: dict[str, int] = {}
        for service in self.system.services.values():
            self._reach(service, "awaited" if service.url else "building" if service.build else "starting")
        try:
            for service in self.system.services.values():
                if service.url is None:
                    ports[service.name] = self._launcher.port()
                else:
                    self._outside[service.name] = await _address_of(service, service.url)
            upstreams = {name: f"{HOST}:{port}" for name, port in ports.items()}
            outside = {name: f"{host}:{port}" for name, (host, port) in self._outside.items()}
            await self.routes.start({**upstreams, **outside})
            await together(
                self._start(service, ports.pop(service.name, 0)) for service in self.system.services.values()
            )
        except BaseException:
            await unsplit(self._abandon(ports))
            raise

    def must_run(self, system: System, version: str) -> None:
        """BaselineError where it runs anything else."""
        if version != self.version:
            what = f"commit {self.version[:12]}, not {version[:12]}"
        elif system != self.system:
            what = "another system: spurline.yaml has changed since it came up"
        else:
            return
        raise BaselineError(
            f"a baseline is up already and runs {what}",
            hint="`spurline baseline down` first; that ends its sandboxes too",
        )

    def prolong(self, until: float | None) -> None:
        """Two who brought it up hold it both: the later end counts, and who set none lets it stay."""
        if until is None:
            self.lease_ends = None
        elif self.lease_ends is not None:
            self.lease_ends = max(self.lease_ends, until)

    def lapsed(self, now: float) -> bool:
        """Whether its lease is over."""
        return self.lease_ends is not None and self.lease_ends <= now

    def starts(self) -> tuple[Start, ...]:
        """How far each service has got on the way up."""
        return tuple(map(self._start_of, self.system.services))

    async def stop(self) -> None:
        """End every service, then the router."""
        await asyncio.gather(*map(self._launcher.stop, self._workloads.values()))
        self._workloads.clear()
        await self.routes.aclose()

    async def view(self) -> Baseline:
        """How it is now: every service is probed; callers that ask at the same time share the probes."""
        if self._health is None:
            self._health = asyncio.create_task(self._probe_all(), name="baseline health")
            self._health.add_done_callback(self._forget_health)
        healthy = await asyncio.shield(self._health)
        services = {name: self._running(name, healthy[name]) for name in self.system.services}
        return Baseline(
            version=self.version,
            services=services,
            urls={name: self._url(service) for name, service in self.system.services.items()},
            lease_ends=self.lease_ends,
            healthy=all(healthy.values()) and self.routes.router.alive,
        )

    def address(self, caller: str, service: str) -> tuple[str, int]:
        """The router's listener for this pair."""
        return self.routes.router.address(caller, service)

    def log(self, service: str) -> LogFile | None:
        """What the service writes; None for one that Spurline does not run."""
        workload = self._workloads.get(service)
        return workload.process.log if workload else None

    def logs(self) -> list[LogFile]:
        return [workload.process.log for workload in self._workloads.values()]

    def _reach(self, service: Service, state: Literal["building", "starting", "awaited"]) -> None:
        self._reached[service.name] = (state, time.monotonic())

    def _start_of(self, name: str) -> Start:
        if name in self._reached:
            state, since = self._reached[name]
            return Start(name, state, time.monotonic() - since)
        workload = self._workloads.get(name)
        return Start(name, "ready", workload.ready_s if workload is not None else None)

    async def _start(self, service: Service, port: int) -> None:
        if service.url is not None:
            await self._await_outside(service)
        else:
            await self._launch(service, port)
        del self._reached[service.name]

    async def _launch(self, service: Service, port: int) -> None:
        try:
            self._workloads[service.name] = await self._launcher.start(
                service,
                Source(commit=self.version),
                address=lambda neighbour: self.address(service.name, neighbour),
                log=LogFile(self._logs / f"{service.name}.log"),
                port=port,
                baseline=True,
                on_run=lambda: self._reach(service, "starting"),
            )
        except NotStarted as failure:
            raise BaselineError(_with_log(failure), hint=failure.hint) from failure
        except CheckoutError as error:
            raise BaselineError(f"{service.name!r} cannot be started: {error.message}", hint=error.hint) from error

    async def _await_outside(self, service: Service) -> None:
        host, port = self._outside[service.name]
        if not await readiness.wait_ready(service.ready, host, port, process=None, log=None):
            raise BaselineError(
                f"{service.name!r} does not answer at {service.url} ({readiness.shown(service.ready, port)})",
                hint=f"start it first, or correct `url` of {service.name!r} in spurline.yaml",
            )

    async def _abandon(self, unused_ports: Mapping[str, int]) -> None:
        for port in unused_ports.values():
            self._launcher.give_back(port)
        await self.stop()

    async def _probe_all(self) -> dict[str, bool]:
        names = list(self.system.services)
        return dict(zip(names, await asyncio.gather(*map(self._is_healthy, names)), strict=True))

    async def _is_healthy(self, name: str) -> bool:
        if name in self._outside:
            host, port = self._outside[name]
            return await readiness.is_ready(self.system.services[name].ready, host, port, log=None)
        workload = self._workloads.get(name)
        return workload is not None and await workload.is_healthy()

    def _forget_health(self, task: asyncio.Task[dict[str, bool]]) -> None:
        if self._health is task:
            self._health = None

    def _running(self, name: str, healthy: bool) -> Running:
        if name in self._outside:
            host, port = self._outside[name]
            return Running(name, f"{host}:{port}", healthy, pid=None, ready_s=None)
        workload = self._workloads[name]
        return Running(name, workload.address, healthy, pid=workload.process.pid, ready_s=workload.ready_s)

    def _url(self, service: Service) -> str:
        host, port = self.address(CLIENT, service.name)
        return f"{'tcp' if service.protocol == 'tcp' else 'http'}://{host}:{port}"


def _with_log(failure: NotStarted) -> str:
    return "\n".join((failure.message, *(f"  | {line}" for line in failure.log)))


async def _address_of(service: Service, url: str) -> tuple[str, int]:
    """Address and port of a service that runs already."""
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("http", "tcp", "grpc"):
        raise BaselineError(
            f"`url` of {service.name!r} is {url!r}", hint="it must be like http://127.0.0.1:9000 (no https)"
        )
    port = parts.port or 80
    try:
        ipaddress.ip_address(parts.hostname)
    except ValueError:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                parts.hostname, port, family=socket.AF_INET, type=socket.SOCK_STREAM
            )
        except OSError as error:
            raise BaselineError(
                f"the host of {service.name!r} ({url}) is not known: {error.strerror}", hint="see `url`"
            ) from error
        return str(found[0][4][0]), port
    return parts.hostname, port
