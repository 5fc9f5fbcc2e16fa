"""Starts of a sandbox's forks: all that are asked for get ready, or none is left.

The routes of a sandbox that lives are moved by whoever asked, when all is ready. Those of one that is being created
move while its first forks start, since nobody has its key yet: so the change of the router's table costs no time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from sandbox.driver import Source
from sandbox.local.baseline import LocalBaseline
from sandbox.local.box import Box, Generation
from sandbox.local.logfile import LogFile
from sandbox.local.together import together, unsplit
from sandbox.local.workload import HOST, Launcher, NotStarted, Workload
from sandbox.router.table import KeyRoutes, Target
from tasks.errors import CheckoutError, ForkError, SandboxError

_END_GRACE_S: Final = 1.0


class Starts:
    """Starts and ends forks beside one baseline. `folder` keeps their logs, `at_once` of them may start at a time."""

    def __init__(self, baseline: LocalBaseline, launcher: Launcher, folder: Path, *, at_once: int) -> None:
        self._baseline, self._launcher, self._folder = baseline, launcher, folder
        self._turns = asyncio.Semaphore(at_once)

    async def first(self, box: Box, sources: Mapping[str, Source]) -> dict[str, Generation]:
        """The first generations of a new sandbox, ready and routed to. ForkError, SandboxError; SandboxGone where `box`
        ends meanwhile."""
        if not sources:
            return {}
        ports = {name: self._launcher.port() for name in sources}
        forks = {name: Target(address=f"{HOST}:{port}", generation=1) for name, port in ports.items()}
        runs = asyncio.Event()
        moving = asyncio.create_task(self._move(replace(box.routes(), forks=forks), runs), name=f"routes of {box.name}")
        started: list[Workload] = []
        try:
            fresh = await box.start(self._all(box, sources, started, ports, runs.set))
            await moving
        except BaseException:
            moving.cancel()
            await unsplit(asyncio.gather(moving, self.undo(started), return_exceptions=True))
            raise
        finally:
            for unused in ports.values():
                self._launcher.give_back(unused)
        return fresh

    async def next(self, box: Box, sources: Mapping[str, Source]) -> dict[str, Generation]:
        """New generations, ready but not routed to. Raises as `first` does."""
        started: list[Workload] = []
        try:
            return await box.start(self._all(box, sources, started, {}, lambda: None))
        except BaseException:
            await unsplit(self.undo(started))
            raise

    async def end(self, workloads: Iterable[Workload]) -> None:
        """Stop them; their logs stay."""
        await asyncio.gather(*(self._launcher.stop(work, grace_s=_END_GRACE_S) for work in workloads))

    async def undo(self, workloads: Iterable[Workload]) -> None:
        """Stop them as if they had never been started."""
        await self.end(workloads)
        for work in workloads:
            work.process.log.remove()

    def log_folder(self, box: Box) -> Path:
        return self._folder / f"{box.name}.{box.key[:4]}"

    async def _move(self, routes: KeyRoutes, runs: asyncio.Event) -> None:
        """Move them once there is nothing to do but to wait for processes that run."""
        await runs.wait()
        await unsplit(self._baseline.routes.put(routes))

    async def _all(
        self,
        box: Box,
        sources: Mapping[str, Source],
        started: list[Workload],
        ports: dict[str, int],
        on_run: Callable[[], None],
    ) -> dict[str, Generation]:
        """Each is in `started` from the moment it is ready. Of `ports`, where they are given, what is used is taken
        out."""
        made = await together(self._one(box, name, source, started, ports, on_run) for name, source in sources.items())
        return dict(zip(sources, made, strict=True))

    async def _one(
        self,
        box: Box,
        name: str,
        source: Source,
        started: list[Workload],
        ports: dict[str, int],
        on_run: Callable[[], None],
    ) -> Generation:
        number = box.forks[name].number + 1 if name in box.forks else 1
        log = LogFile(self.log_folder(box) / f"{name}.{number}.log")
        log.remove()
        try:
            async with self._turns:
                workload = await self._launcher.start(
                    self._baseline.system.services[name],
                    source,
                    address=lambda neighbour: self._baseline.address(name, neighbour),
                    log=log,
                    port=ports.pop(name, None),
                    on_run=on_run,
                )
        except NotStarted as failure:
            raise ForkError(
                failure.message,
                service=failure.service,
                stage=failure.stage,
                log=failure.log,
                hint=failure.hint,
            ) from failure
        except CheckoutError as error:
            raise SandboxError(f"{name!r} cannot be forked: {error.message}", hint=error.hint) from error
        started.append(workload)
        return Generation(number=number, workload=workload)
