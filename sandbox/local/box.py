"""One live sandbox as the driver holds it: what runs, what drains, until when; and how it is shown to the outside."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sandbox.driver import Fork, Sandbox
from sandbox.keys import RoutingKey
from sandbox.local.logfile import LogFile
from sandbox.local.workload import Workload
from sandbox.router.table import KeyRoutes, Target
from tasks.errors import SandboxGone

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """One workload and its number."""

    number: int
    workload: Workload

    def shown(self) -> Fork:
        work = self.workload
        return Fork(
            service=work.service.name,
            generation=self.number,
            commit=work.source.commit,
            address=work.address,
            pid=work.process.pid,
            ready_s=work.ready_s,
            build_s=work.build_s,
            alive=work.process.alive,
        )


@dataclass(slots=True, eq=False)
class Box:
    """Mutable; changed only under `lock`, but for `lease_ends`, `made` and `ended`."""

    name: str
    key: RoutingKey
    lease_ends: float
    slot: int | None = None
    urls: dict[str, str] = field(default_factory=dict)
    forks: dict[str, Generation] = field(default_factory=dict)
    generation: int = 0
    faults: frozenset[str] = frozenset()
    made: bool = False
    """Whether `create` has returned: nobody may use it before."""
    ended: str | None = None
    """Why it is gone, once it is."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    draining: dict[asyncio.Task[None], Workload] = field(default_factory=dict)
    earlier_logs: dict[str, LogFile] = field(default_factory=dict)
    """The log of the generation before the present one, by service."""
    _starting: asyncio.Task[Any] | None = None

    def check(self) -> None:
        """SandboxGone once it has ended."""
        if self.ended is not None:
            raise gone(self.name, self.ended)

    def end(self, reason: str) -> None:
        """From now on it is gone; a start under way is called off."""
        self.ended = reason
        if self._starting is not None:
            self._starting.cancel()

    async def start(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a start that `end` calls off; SandboxGone then."""
        self._starting = task = asyncio.create_task(work, name=f"forks of {self.name}")
        try:
            return await task
        except asyncio.CancelledError:
            self.check()
            raise
        finally:
            self._starting = None

    def logs_of(self, service: str) -> list[LogFile]:
        """Earlier generation first."""
        earlier = [self.earlier_logs[service]] if service in self.earlier_logs else []
        now = [self.forks[service].workload.process.log] if service in self.forks else []
        return earlier + now

    def all_logs(self) -> list[LogFile]:
        return [generation.workload.process.log for generation in self.forks.values()]

    def routes(self) -> KeyRoutes:
        """What the router must know of it."""
        return KeyRoutes(
            name=self.name,
            key=self.key,
            forks={
                name: Target(address=made.workload.address, generation=made.number) for name, made in self.forks.items()
            },
            faults=self.faults,
            slot=self.slot,
        )

    def routes_with(self, fresh: dict[str, Generation]) -> KeyRoutes:
        """The same with some forks replaced."""
        targets = {n: Target(address=g.workload.address, generation=g.number) for n, g in fresh.items()}
        now = self.routes()
        return replace(now, forks={**now.forks, **targets})

    def shown(self) -> Sandbox:
        return Sandbox(
            name=self.name,
            key=self.key,
            forks={name: generation.shown() for name, generation in self.forks.items()},
            urls=dict(self.urls) if self.made else {},
            lease_ends=self.lease_ends,
            generation=self.generation,
            faults=tuple(sorted(self.faults)),
        )


def gone(name: str, reason: str | None) -> SandboxGone:
    """What is raised for a name that has ended, or (no reason) never was one."""
    if reason is None:
        return SandboxGone(f"there is no sandbox {name!r}", hint="create it first")
    return SandboxGone(f"the sandbox {name!r} is gone: {reason}", hint="create it anew; it gets another routing key")
