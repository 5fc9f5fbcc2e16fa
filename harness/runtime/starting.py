"""A baseline on its way up, watched: who waits for it learns which service he is waiting for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from sandbox.driver import Baseline, Driver, Start
from tasks.errors import SpurlineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox.service import System

Watcher = Callable[[Iterable[Start]], None]
"""Told of all services of the baseline again and again; quick, and never raises."""

_LOOK_S: Final = 0.1
_PATIENCE_S: Final = 5.0


async def brought_up(
    driver: Driver, system: System, commit: str, watch: Watcher, *, lease_s: float | None = None
) -> Baseline:
    """`driver.up`, with `watch` told how far each service has got until, at last, all are ready."""
    async with _watched(driver, watch):
        baseline = await driver.up(system, commit, lease_s=lease_s)
    watch([Start(name, "ready", running.ready_s) for name, running in baseline.services.items()])
    return baseline


@asynccontextmanager
async def _watched(driver: Driver, watch: Watcher) -> AsyncIterator[None]:
    async def look() -> None:
        while True:
            # What is wrong with the driver is for `up` to say.
            with suppress(SpurlineError):
                if starts := await driver.starts():
                    watch(starts)
            await asyncio.sleep(_LOOK_S)

    looking = asyncio.create_task(look(), name="watching the baseline come up")
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


def described(start: Start) -> str:
    """The state in words, with what a ready service took."""
    return start.state if start.state != "ready" or start.took_s is None else f"ready after {start.took_s:.2f} s"


class StartLog:
    """A Watcher that narrates: a line for each change, and now and then who is still waited for."""

    def __init__(self, narrate: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._narrate, self._clock = narrate, clock
        self._began = self._spoke = clock()
        self._told: dict[str, str] = {}

    def __call__(self, starts: Iterable[Start]) -> None:
        waiting = []
        for start in starts:
            if start.state != "ready":
                waiting.append(start.service)
            # That all of them are starting was said when it began.
            if self._told.get(start.service, "starting") != start.state:
                self._narrate(f"  {start.service} {described(start)}")
            self._told[start.service] = start.state
        now = self._clock()
        if waiting and now - self._spoke >= _PATIENCE_S:
            self._spoke = now
            self._narrate(f"  still starting after {now - self._began:.0f} s: {', '.join(waiting)}")
