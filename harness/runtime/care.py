"""Care for the baseline of a run: what is wrong with it, and bringing it back where nobody else would be disturbed.

A baseline that is gone (its keeper was killed) is brought up again. One that is sick is only replaced where a run
brought it up and nobody but this run uses it; else it is for its owner to mend, and tickets wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from harness.project import Project
from harness.runtime.connections import Narrator, connected
from sandbox.driver import Baseline, Driver
from tasks.errors import SpurlineError
from tasks.text import one_line


class Care:
    """The probe of the baseline's breaker. `ours` tells the names of the run's own sandboxes."""

    def __init__(
        self,
        project: Project,
        driver: Driver,
        commit: str,
        narrate: Narrator,
        *,
        ours: Callable[[], Collection[str]],
    ) -> None:
        self._project, self._driver, self._commit, self._narrate = project, driver, commit, narrate
        self._ours = ours
        self._sick_before = False

    async def probe(self) -> str | None:
        """What is wrong in one line, None when all is well by now."""
        try:
            baseline = await self._driver.baseline()
        except SpurlineError:
            baseline = None
        if baseline is None:
            return await self._up("the baseline is gone")
        wrong = self._wrong(baseline)
        # Once may be a slow answer of a machine that is busy.
        sick, self._sick_before = wrong is not None and self._sick_before, wrong is not None
        if sick and await self._is_ours(baseline):
            return await self._anew(str(wrong))
        return wrong

    def _wrong(self, baseline: Baseline) -> str | None:
        if baseline.version != self._commit:
            return f"the baseline runs commit {baseline.version[:12]}, not {self._commit[:12]}"
        sick = sorted(name for name, service in baseline.services.items() if not service.healthy)
        if sick:
            return f"not healthy in the baseline: {', '.join(sick)}"
        return None if baseline.healthy else "the baseline's router is not healthy"

    async def _is_ours(self, baseline: Baseline) -> bool:
        """Whether a run brought it up, for this commit, and it has no sandbox but ours."""
        if baseline.lease_ends is None or baseline.version != self._commit:
            return False
        try:
            return {sandbox.name for sandbox in await self._driver.list()} <= set(self._ours())
        except SpurlineError:
            return False

    async def _anew(self, why: str) -> str | None:
        try:
            await self._driver.down()
        except SpurlineError as error:
            return one_line(error.message)
        return await self._up(why)

    async def _up(self, why: str) -> str | None:
        self._narrate(f"{why}: bringing it up again")
        try:
            # Whoever asks for the driver first starts its keeper where none answers.
            async with connected(self._project) as driver:
                await driver.up(self._project.system(), self._commit, lease_s=self._project.settings.baseline.ttl)
        except SpurlineError as error:
            return one_line(error.message)
        self._sick_before = False
        return None
