"""The local driver: what `sandbox.driver` promises, with processes of this machine and Envoy on loopback.

In process: everything it started ends with it. To let a baseline outlive one command, or to share it, it is
served by a keeper (`sandbox.local.keeper`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sandbox.confinement import confinement
from sandbox.driver import Baseline, Cursor, LogLine, Sandbox, Source, Start, Window
from sandbox.local.baseline import LocalBaseline
from sandbox.local.box import gone
from sandbox.local.cages import Cages
from sandbox.local.checkouts import Checkouts
from sandbox.local.git import Git
from sandbox.local.guard import Guard
from sandbox.local.ports import PortPool
from sandbox.local.sandboxes import Sandboxes
from sandbox.local.together import unsplit
from sandbox.local.workload import Launcher
from sandbox.service import System
from tasks.errors import BaselineError, SandboxError

_TEND_S: Final = 0.1
"""How often leases, logs and the router are looked after; the resolution of the times of log lines."""

_AFTER_FAILURE_S: Final = 1.0
_log = logging.getLogger(__name__)


class LocalDriver:
    """An async context manager that is a `sandbox.driver.Driver` while it is open.

    `repo` is a git repository or a folder in one; paths of services are relative to it. `state` is a folder of the
    driver's own, held exclusively: a second driver on it is refused. What a killed driver left there is ended and
    removed on entry. Raises CheckoutError (no repository), StoreError (no access to `state`), SandboxError (held).

    `clock` (seconds since the epoch) decides leases only; the usual one never jumps, whatever is done to the machine's.
    An updated fork's old process gets `drain_s` to finish
    its requests. At most `starts` forks build and start at the same time: more would only share the processors,
    and be blamed for missing their time limit. `owner` marks all processes that are started. `patience_s` is how long
    to wait for another driver on the folder to end.
    """

    def __init__(
        self,
        repo: Path,
        state: Path,
        *,
        clock: Callable[[], float] | None = None,
        drain_s: float = 10.0,
        starts: int = 8,
        owner: str | None = None,
        patience_s: float = 0.0,
    ) -> None:
        self._state = state.absolute()
        self._clock, self._drain_s, self._starts = clock or _steady(), drain_s, starts
        self._guard = Guard(self._state, owner=owner, patience_s=patience_s)
        self._git = Git(repo.absolute(), self._state / "git")
        self._checkouts = Checkouts(self._git, self._state / "checkouts")
        self._ports = PortPool()
        self._launcher = Launcher(
            checkouts=self._checkouts,
            ports=self._ports,
            guard=self._guard,
            environ=os.environ,
            cages=Cages(self._git, self._state, os.environ),
        )
        self._life = asyncio.Lock()
        self._up: tuple[LocalBaseline, Sandboxes] | None = None
        self._coming: LocalBaseline | None = None
        """The baseline that is on its way up."""
        self._ended: dict[str, str] = {}
        self._left: tuple[str, ...] = ()
        self._tenders: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._guard.__enter__)
        try:
            await self._git.open()
        except BaseException:
            await asyncio.to_thread(self._guard.__exit__, None, None, None)
            raise
        await asyncio.to_thread(confinement)  # tried out once, before the first fork waits for it
        self._left = self._guard.removed
        self._tenders = (
            asyncio.create_task(_again_and_again(self.reap), name="local driver's leases"),
            asyncio.create_task(_again_and_again(self.tend), name="local driver's router and logs"),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End everything. In process nothing can go on without the driver."""
        if not self._tenders:
            return
        for tender in self._tenders:
            tender.cancel()
        await asyncio.wait(self._tenders)
        self._tenders = ()
        try:
            await self.down()
        finally:
            self._ports.close()
            await asyncio.to_thread(self._guard.__exit__, None, None, None)

    @property
    def is_idle(self) -> bool:
        """Whether neither a baseline nor, therefore, any sandbox is up or coming up."""
        return self._up is None and not self._life.locked()

    async def up(self, system: System, commit: str, *, lease_s: float | None = None) -> Baseline:
        self._opened()
        version = await self._git.resolve(commit)
        async with self._life:
            if self._up is not None:
                self._up[0].must_run(system, version)
                self._up[0].prolong(self._lease_end(lease_s))
            else:
                self._up = await self._raise(system, version, lease_s)
            return await self._up[0].view()

    async def starts(self) -> tuple[Start, ...]:
        return self._coming.starts() if self._coming is not None else ()

    async def baseline(self) -> Baseline | None:
        return await self._up[0].view() if self._up is not None else None

    async def hold(self, *, lease_s: float) -> None:
        self._running()[0].prolong(self._clock() + lease_s)

    async def down(self) -> None:
        await self._down("the baseline was taken down")

    async def create(self, name: str, *, ttl_s: float, sources: Mapping[str, Source] | None = None) -> Sandbox:
        sandboxes = self._running()[1]
        exact = {service: await self._git.exact(source) for service, source in (sources or {}).items()}
        return await sandboxes.create(name, ttl_s=ttl_s, sources=exact)

    async def fork(self, name: str, sources: Mapping[str, Source]) -> Sandbox:
        sandboxes = self._sandboxes(name)
        sandboxes.box(name)
        exact = {service: await self._git.exact(source) for service, source in sources.items()}
        return await sandboxes.fork(name, exact)

    async def renew(self, name: str, *, ttl_s: float) -> Sandbox:
        box = self._sandboxes(name).box(name)
        box.lease_ends = self._clock() + ttl_s
        return box.shown()

    async def get(self, name: str) -> Sandbox:
        return self._sandboxes(name).box(name).shown()

    async def list(self) -> tuple[Sandbox, ...]:
        return self._up[1].live() if self._up is not None else ()

    async def delete(self, name: str) -> None:
        if self._up is not None:
            await self._up[1].delete(name)

    async def gc(self, *, dry_run: bool = False) -> tuple[str, ...]:
        """End what has outlived its lease and remove folders that belong to nothing; also names, once, what an
        earlier driver had left here and went as this one was opened (`leftovers` names it before)."""
        left: tuple[str, ...] = ()
        if not dry_run:
            left, self._left = self._left, ()
        reaped = await self.reap(dry_run=dry_run)
        return (*left, *reaped, *await self._checkouts.sweep(dry_run=dry_run))

    async def cursor(self) -> Cursor:
        return await self._running()[0].routes.cursor()

    async def window(self, name: str, since: Cursor) -> Window:
        box = self._sandboxes(name).box(name)
        return await self._running()[0].routes.window(box.key, since)

    async def logs(self, service: str, *, sandbox: str | None, since: float = 0.0) -> tuple[LogLine, ...]:
        """Of a fork the present generation's and the one's before; of a service that Spurline did not start, none."""
        baseline, sandboxes = self._running() if sandbox is None else (None, self._sandboxes(sandbox))
        if baseline is not None:
            log = baseline.log(service)
            found = [log] if log is not None else []
        else:
            assert sandbox is not None
            found = sandboxes.box(sandbox).logs_of(service)
        return tuple(line for log in found for line in log.lines(since))

    async def plant(self, name: str, service: str | None) -> None:
        await self._sandboxes(name).plant(name, service)

    async def reap(self, *, dry_run: bool = False) -> tuple[str, ...]:
        """End every sandbox, or the baseline, whose lease is over by the clock; their names. `dry_run`: only tell."""
        if self._up is None:
            return ()
        baseline, sandboxes = self._up
        if baseline.lapsed(self._clock()):
            if not dry_run:
                await self._down("the baseline's lease ended", only=baseline)
            return ("baseline",)
        return await sandboxes.reap(dry_run=dry_run)

    async def tend(self) -> None:
        """One round of what is to be done all the time: the router's life and the times of log lines."""
        if self._up is None:
            return
        baseline, sandboxes = self._up
        if await baseline.routes.revive():
            _log.warning("the router had died and was started again")
        for log in (*baseline.logs(), *sandboxes.logs()):
            log.note()

    async def _raise(self, system: System, version: str, lease_s: float | None) -> tuple[LocalBaseline, Sandboxes]:
        self._coming = baseline = LocalBaseline(system, version, self._launcher, self._guard, self._state)
        try:
            await baseline.start()
        finally:
            self._coming = None
        self._checkouts.keep_spare(version)
        baseline.lease_ends = self._lease_end(lease_s)
        folder = self._state / "logs" / "sandboxes"
        return baseline, Sandboxes(
            baseline,
            self._launcher,
            folder,
            ended=self._ended,
            clock=self._clock,
            drain_s=self._drain_s,
            starts=self._starts,
        )

    async def _down(self, reason: str, *, only: LocalBaseline | None = None) -> None:
        """Take down what is up; `only` this baseline, where another one may have come up meanwhile."""
        async with self._life:
            if self._up is not None and only in (None, self._up[0]):
                (baseline, sandboxes), self._up = self._up, None
                await unsplit(self._take_down(baseline, sandboxes, reason))

    async def _take_down(self, baseline: LocalBaseline, sandboxes: Sandboxes, reason: str) -> None:
        try:
            await sandboxes.end_all(reason)
        finally:
            await baseline.stop()
            await self._checkouts.drop_spare()

    def _lease_end(self, lease_s: float | None) -> float | None:
        return None if lease_s is None else self._clock() + lease_s

    def _opened(self) -> None:
        if not self._tenders:
            raise SandboxError("the driver is not open", hint="use it as `async with LocalDriver(…) as driver`")

    def _running(self) -> tuple[LocalBaseline, Sandboxes]:
        if self._up is None:
            raise BaselineError("no baseline is up", hint="`spurline baseline up` starts it")
        return self._up

    def _sandboxes(self, name: str) -> Sandboxes:
        """The live sandboxes, asked for by somebody who means `name`: SandboxGone where no baseline is up."""
        if self._up is None:
            raise gone(name, self._ended.get(name, "no baseline is up"))
        return self._up[1]


def _steady() -> Callable[[], float]:
    """The time as it is now, which from now on goes as fast as time does."""
    began = time.time() - time.monotonic()
    return lambda: began + time.monotonic()


async def _again_and_again(one_round: Callable[[], Awaitable[object]]) -> None:
    while True:
        pause_s = _TEND_S
        try:
            await one_round()
        except Exception:  # a task's boundary: leases must be kept whatever one round met
            _log.exception("looking after the baseline failed")
            pause_s = _AFTER_FAILURE_S
        await asyncio.sleep(pause_s)
