"""A trial: the checks are run in a sandbox whose forks run one commit, and everything that can be known is noted.

One check at a time, each with its own window of the router's records. No opinion is formed here, save for which forks a
fault must be planted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from harness.validation.baseline import BaselineBook
from harness.validation.bench import Docket, Item, TamperedError
from harness.validation.examiner import Examiner
from harness.validation.facts import (
    BaselineFacts,
    Facts,
    ForkFacts,
    PlantFacts,
    ScopeFacts,
    StaticFacts,
)
from harness.validation.series import Run, Series, answered
from harness.validation.targets import Target
from harness.validation.verdict import judge, needs_fault
from harness.validation.windows import faults, lost_towards, record_facts, served
from sandbox.driver import Driver, Sandbox
from sandbox.hops import Lost
from tasks.errors import BaselineError
from tasks.ticket import HttpCheck


@dataclass(frozen=True, slots=True)
class Case:
    """What is tried: one commit in one sandbox, by one docket."""

    docket: Docket
    commit: str
    sandbox: str
    scope: ScopeFacts
    static: tuple[StaticFacts, ...] | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What came out."""

    facts: Facts
    series: tuple[Series, ...]
    sandbox: Sandbox
    steady: bool
    """Whether the environment held: the baseline healthy and the same, the forks the same, no record dropped."""

    @property
    def lived(self) -> bool:
        """Whether all forks were alive in the end."""
        return all(fork.alive for fork in self.facts.forks)


class Court:
    """Tries cases; each sandbox's cases one after the other."""

    def __init__(self, driver: Driver, examiner: Examiner, book: BaselineBook) -> None:
        self._driver, self._examiner, self._book = driver, examiner, book

    async def hear(self, case: Case) -> Trial:
        """Run everything once. EnvironmentFault where it cannot be run at all."""
        before = await self._state()
        sandbox = await self._unharmed(case.sandbox)
        series: list[Series] = []
        planted: tuple[PlantFacts, ...] = ()
        intact = True
        try:
            for item in case.docket.items:
                series.append(await self._series(case, sandbox, item))  # noqa: PERF401
            facts = self._facts(case, sandbox, series, before, before)
            planted = await self._plant(case, sandbox, facts)
            if judge(replace(facts, planted=planted)).conclusion == "verified":
                series = await self._confirmed(case, sandbox, series)
        except TamperedError:
            intact = False
        after = await self._state()
        now = await self._driver.get(case.sandbox)
        facts = replace(self._facts(case, now, series, before, after), planted=planted, judges_intact=intact)
        assert facts.baseline is not None
        assert facts.records is not None
        steady = facts.baseline.steady and not facts.records.dropped and _forks(now) == _forks(sandbox)
        return Trial(facts, tuple(series), now, steady)

    async def _series(self, case: Case, sandbox: Sandbox, item: Item) -> Series:
        baseline = await self._book.result(case.docket, item)
        repeat = case.docket.repeat
        runs: list[Run] = []
        while not answered(item, baseline, [run.result for run in runs], repeat, case.docket.ticket.preserve):
            runs.append(await self._run(case, sandbox, item))
        series = Series(item, baseline, tuple(runs))
        while series.is_suspicious(sandbox.forks, case.docket.system):
            series = replace(series, runs=(*series.runs, await self._run(case, sandbox, item)))
        return series

    async def _confirmed(self, case: Case, sandbox: Sandbox, series: Sequence[Series]) -> list[Series]:
        """The series, with the red of the baseline taken back where the untouched code, forked as the change was, is
        green now: of the ticket's own checks, and of those that excuse what fails with the change."""
        red = [one.item for one in series if one.leans_on_red]
        again = await self._book.confirm(case.docket, red, sorted(sandbox.forks)) if red else {}
        return [one.asked_again(again.get(one.item.name)) for one in series]

    async def _run(self, case: Case, sandbox: Sandbox, item: Item) -> Run:
        began = time.time()
        since = await self._driver.cursor()
        target = Target.of(sandbox, case.docket.system.entry)
        result = await self._examiner.examine(item, target, case.docket.base)
        result = result.beside(await self._book.result(case.docket, item))
        return Run(began, result, await self._driver.window(case.sandbox, since))

    async def _plant(self, case: Case, sandbox: Sandbox, facts: Facts) -> tuple[PlantFacts, ...]:
        """Make each fork that is not proven yet answer 503, where that is all that is missing."""
        wanted = needs_fault(facts)
        candidates = {service: _candidates(case, facts, service) for service in wanted}
        supposed = tuple(PlantFacts(service, found[0].name, 1) for service, found in candidates.items() if found)
        if not wanted or judge(replace(facts, planted=supposed)).conclusion != "verified":
            return ()
        return tuple([await self._plant_one(case, sandbox, service, candidates[service]) for service in wanted])

    async def _plant_one(self, case: Case, sandbox: Sandbox, service: str, items: Sequence[Item]) -> PlantFacts:
        met = 0
        for item in items:
            async with self._fault(case.sandbox, service):
                red, met = await self._reds(case, sandbox, item, service)
            # What is still red without the fault has turned so by something else.
            if red and (await self._run(case, sandbox, item)).result.passed:
                return PlantFacts(service, item.name, met)
        return PlantFacts(service, None, met)

    async def _reds(self, case: Case, sandbox: Sandbox, item: Item, service: str) -> tuple[bool, int]:
        """Whether the check is red by the fault, as often as a flaky one is not; and how many requests met it."""
        met = 0
        for _ in range(case.docket.repeat):
            run = await self._run(case, sandbox, item)
            met = faults(run.window, service)
            if not met or run.result.outcome != "fail":
                return False, met
        return True, met

    async def _unharmed(self, name: str) -> Sandbox:
        """The sandbox, without the fault that a killed trial may have left planted."""
        sandbox = await self._driver.get(name)
        if not sandbox.faults:
            return sandbox
        await self._driver.plant(name, None)
        return await self._driver.get(name)

    @asynccontextmanager
    async def _fault(self, sandbox: str, service: str) -> AsyncIterator[None]:
        await self._driver.plant(sandbox, service)
        try:
            yield
        finally:
            await self._driver.plant(sandbox, None)

    async def _state(self) -> tuple[str, bool]:
        baseline = await self._driver.baseline()
        if baseline is None:
            raise BaselineError("the baseline is gone", hint="`spurline baseline up` starts it")
        return baseline.version, baseline.healthy and all(one.healthy for one in baseline.services.values())

    def _facts(
        self,
        case: Case,
        sandbox: Sandbox,
        series: Sequence[Series],
        before: tuple[str, bool],
        after: tuple[str, bool],
    ) -> Facts:
        generations = {name: fork.generation for name, fork in sandbox.forks.items()}
        windows = [run.window for one in series for run in one.runs]
        hops: Counter[str] = sum((served(window, generations) for window in windows), Counter())
        unreached = [name for name in generations if not hops[name]]
        system = case.docket.system
        return Facts(
            commit=case.commit,
            base=case.docket.base,
            judged_from=case.docket.base,
            judges_intact=True,
            scope=case.scope,
            static=case.static,
            forks=tuple(
                ForkFacts(name, fork.generation, fork.commit, hops[name], fork.alive)
                for name, fork in sorted(sandbox.forks.items())
            ),
            checks=tuple(one.facts(generations, system) for one in series),
            planted=(),
            records=record_facts(windows, generations),
            baseline=BaselineFacts(before[0], after[0], before[1], after[1]),
            repeat=case.docket.repeat,
            preserve=case.docket.ticket.preserve,
            lost=_merged(lost_towards(window, unreached, system) for window in windows),
        )


def _candidates(case: Case, facts: Facts, service: str) -> list[Item]:
    """Checks that a fault of the service should turn red, the quick ones first."""
    sound = {
        check.name for check in facts.checks if service in check.forks and check.held(facts.repeat) and not check.flaky
    }
    found = [item for item in case.docket.items if item.name in sound]
    return sorted(found, key=lambda item: (not isinstance(item.check, HttpCheck), not item.own))


def _forks(sandbox: Sandbox) -> dict[str, tuple[int, str | None]]:
    return {name: (fork.generation, fork.commit) for name, fork in sandbox.forks.items()}


def _merged(many: Iterable[Iterable[Lost]]) -> tuple[Lost, ...]:
    return tuple(dict.fromkeys(loss for some in many for loss in some))
