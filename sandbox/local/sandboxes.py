"""All sandboxes beside one baseline: create, fork blue-green, renew, end.

Calls on one sandbox take turns; different sandboxes never wait for each other. A name is free again as soon as its
sandbox has begun to end, since routes belong to keys, not to names.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from sandbox.driver import Sandbox, Source
from sandbox.keys import new_key
from sandbox.local.baseline import LocalBaseline
from sandbox.local.box import Box, Generation, gone
from sandbox.local.keystock import KeyStock
from sandbox.local.logfile import LogFile
from sandbox.local.starts import Starts
from sandbox.local.together import unsplit
from sandbox.local.workload import Launcher, Workload
from tasks.errors import SandboxError, SandboxTaken

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Sandboxes:
    """The sandboxes of one baseline. `folder` keeps their logs; `ended` is the driver's memory of which names ended and
    why, since it outlives the baseline."""

    def __init__(
        self,
        baseline: LocalBaseline,
        launcher: Launcher,
        folder: Path,
        *,
        ended: dict[str, str],
        clock: Callable[[], float],
        drain_s: float,
        starts: int,
    ) -> None:
        self._baseline, self._launcher = baseline, launcher
        self._clock, self._drain_s = clock, drain_s
        self._starts = Starts(baseline, launcher, folder, at_once=starts)
        self._boxes: dict[str, Box] = {}
        self._ending: dict[str, set[asyncio.Task[None]]] = {}
        self._ended = ended
        self._over: str | None = None
        """Why there are none any more, once the baseline goes."""
        self._stock = KeyStock(baseline.routes)
        self._stock.fill()

    def __len__(self) -> int:
        return len(self._boxes)

    def live(self) -> tuple[Sandbox, ...]:
        """All that have not ended, by name."""
        now = self._clock()
        return tuple(box.shown() for _, box in sorted(self._boxes.items()) if box.lease_ends > now)

    def box(self, name: str) -> Box:
        """The live sandbox of this name; SandboxGone if there is none yet, or its lease has run out."""
        box = self._boxes.get(name)
        if box is None or not box.made:
            raise gone(name, self._ended.get(name))
        if box.lease_ends <= self._clock():
            raise gone(name, "its lease ended")
        return box

    async def create(self, name: str, *, ttl_s: float, sources: Mapping[str, Source]) -> Sandbox:
        """A sandbox that forks `sources`; when this returns its key is live and all are ready. If it raises, it is
        gone."""
        if self._over is not None:
            # Whoever asks may have asked while the baseline was up.
            raise gone(name, self._over)
        if not _NAME.fullmatch(name):
            raise SandboxError(f"{name!r} cannot name a sandbox", hint="use 1 to 128 letters, digits, '.', '_' or '-'")
        if name in self._boxes and self._boxes[name].lease_ends <= self._clock():
            await self.end(self._boxes[name], "its lease ended")
        if name in self._boxes:
            raise SandboxTaken(f"the sandbox {name!r} exists already", hint="take another name, or delete it first")
        for service, source in sources.items():
            self._check(service, source)
        box = self._boxes[name] = Box(name=name, key=new_key(), lease_ends=self._clock() + ttl_s)
        try:
            async with box.lock:
                await self._place(box)
                box.check()
                box.forks = await self._starts.first(box, sources)
                box.generation = 1 if sources else 0
            box.check()
        except BaseException:
            await unsplit(self.end(box, "it could not be created"))
            raise
        box.made = True
        self._ended.pop(name, None)
        self._launcher.checkouts.keep_spare(self._baseline.version)
        return box.shown()

    async def fork(self, name: str, sources: Mapping[str, Source]) -> Sandbox:
        """Start all of `sources`, then move all routes at once; on ForkError nothing has changed."""
        box = self.box(name)
        for service, source in sources.items():
            self._check(service, source)
        async with box.lock:
            box.check()
            fresh = await self._starts.next(box, sources)
            await unsplit(self._swap(box, fresh))
        self._launcher.checkouts.keep_spare(self._baseline.version)
        return box.shown()

    async def plant(self, name: str, service: str | None) -> None:
        """Make one service answer 503 for this sandbox's key, or none."""
        box = self.box(name)
        if service is not None and service not in self._baseline.system.services:
            raise self._unknown(service)
        async with box.lock:
            box.check()
            faults = frozenset() if service is None else frozenset({service})
            await unsplit(self._baseline.routes.put(replace(box.routes(), faults=faults)))
            box.faults = faults

    async def delete(self, name: str) -> None:
        """End it if it lives; return when nothing of it is left in any case."""
        box = self._boxes.get(name)
        if box is not None:
            await self.end(box, "it was deleted")
        for ending in tuple(self._ending.get(name, ())):
            await asyncio.shield(ending)

    async def reap(self, *, dry_run: bool = False) -> tuple[str, ...]:
        """End what has outlived its lease; the names. `dry_run`: only tell."""
        now = self._clock()
        due = [box for box in self._boxes.values() if box.lease_ends <= now]
        if not dry_run:
            await asyncio.gather(*(self.end(box, "its lease ended") for box in due))
        return tuple(box.name for box in due)

    async def end_all(self, reason: str) -> None:
        """End every sandbox; no new one is created meanwhile, nor after."""
        self._over = reason
        await self._stock.aclose()
        await asyncio.gather(*(self.end(box, reason) for box in tuple(self._boxes.values())))
        for endings in tuple(self._ending.values()):
            await asyncio.gather(*endings)

    async def end(self, box: Box, reason: str) -> None:
        """Take routes, key, forks, checkouts and logs away. Runs to its end even if the caller is cancelled."""
        if self._boxes.get(box.name) is not box:
            return
        del self._boxes[box.name]
        self._ended[box.name] = reason
        box.end(reason)
        task = asyncio.create_task(self._dismantle(box), name=f"end of {box.name}")
        endings = self._ending.setdefault(box.name, set())
        endings.add(task)
        task.add_done_callback(lambda done: self._forget(box.name, done))
        await asyncio.shield(task)

    def logs(self) -> list[LogFile]:
        return [log for box in self._boxes.values() for log in box.all_logs()]

    def _forget(self, name: str, ended: asyncio.Task[None]) -> None:
        self._ending[name].discard(ended)
        if not self._ending[name]:
            del self._ending[name]

    async def _place(self, box: Box) -> None:
        """Give it the key by which it is known, and the ingress of that key."""
        place = await self._stock.take()
        box.key, box.slot = place.key, place.slot
        router = self._baseline.routes.router
        box.urls = {
            name: router.ingress(place.slot, name)
            for name, service in self._baseline.system.services.items()
            if service.protocol != "tcp"
        }

    async def _swap(self, box: Box, fresh: dict[str, Generation]) -> None:
        """Move the routes to `fresh` and let what they led to drain. If they cannot be moved, `fresh` is ended."""
        try:
            await self._baseline.routes.put(box.routes_with(fresh))
        except BaseException:
            await self._starts.undo([made.workload for made in fresh.values()])
            raise
        for name, made in fresh.items():
            old = box.forks.get(name)
            box.forks[name] = made
            if old is not None:
                self._retire(box, name, old.workload)
        box.generation += 1

    def _retire(self, box: Box, name: str, old: Workload) -> None:
        """Stop it once its requests have ended; its log is kept for one generation more."""
        if name in box.earlier_logs:
            box.earlier_logs[name].remove()
        box.earlier_logs[name] = old.process.log
        task = asyncio.create_task(self._drain(old), name=f"drain of {box.name}/{name}")
        box.draining[task] = old
        task.add_done_callback(lambda done: box.draining.pop(done, None))

    async def _drain(self, old: Workload) -> None:
        await self._baseline.routes.drained(old.address, grace_s=self._drain_s)
        await unsplit(self._launcher.stop(old))

    async def _dismantle(self, box: Box) -> None:
        async with box.lock:
            try:
                await self._baseline.routes.drop(box.key)
                if box.slot is not None:
                    self._baseline.routes.router.release(box.slot)
            finally:
                draining = dict(box.draining)
                for task in draining:
                    task.cancel()
                if draining:
                    await asyncio.wait(draining)
                forks = [made.workload for made in box.forks.values()]
                await self._starts.end([*draining.values(), *forks])
                await asyncio.to_thread(shutil.rmtree, self._starts.log_folder(box), ignore_errors=True)

    def _check(self, name: str, source: Source) -> None:
        service = self._baseline.system.services.get(name)
        if service is None:
            raise self._unknown(name)
        if service.url is not None:
            raise SandboxError(
                f"{name!r} runs already at {service.url} and cannot be forked",
                hint=f"give {name!r} a `command` instead of a `url` in spurline.yaml",
            )
        if service.protocol == "tcp":
            raise SandboxError(
                f"{name!r} speaks plain TCP, which carries no key: a fork of it would never be reached",
                hint=f"set `protocol: http1` or `http2` for {name!r} if it speaks one of them",
            )
        if source.folder is not None and not source.folder.is_dir():
            raise SandboxError(f"{str(source.folder)!r} is no folder", hint="give a folder or a revision")

    def _unknown(self, name: str) -> SandboxError:
        known = ", ".join(sorted(self._baseline.system.services))
        return SandboxError(f"the system has no service {name!r}", hint=f"its services are {known}")
