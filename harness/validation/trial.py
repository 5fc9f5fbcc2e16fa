"""A trial: the checks are run in a sandbox whose forks run one commit, and everything that can be known is noted.

One check at a time, each with its own window of the router's records. No opinion is formed here, save for how often a
check must be asked and for which forks a fault must be planted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from harness.validation.baseline import BaselineBook
from harness.validation.bench import Docket, Item, TamperedError
from harness.validation.examiner import Examiner
from harness.validation.facts import (
    BaselineFacts,
    CheckFacts,
    Facts,
    ForkFacts,
    PlantFacts,
    ScopeFacts,
    StaticFacts,
)
from harness.validation.results import CheckResult
from harness.validation.targets import Target
from harness.validation.verdict import judge, needs_fault
from harness.validation.windows import faults, lost_towards, record_facts, served
from sandbox.driver import Driver, Sandbox, Window
from sandbox.hops import Lost
from tasks.errors import BaselineError
from tasks.ticket import HttpCheck

_NOT_TWICE: Final = 2
"""A check that never passed is not asked more often than this."""
_SURE: Final = 3
"""With many agents at once a stray may be somebody else's; one that is there in so many runs is ours."""
_NEVER: Final = 5
"""What passes now and then on the baseline is asked so often before it is said never to pass with the change."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one check in the sandbox."""

    began: float
    result: CheckResult
    window: Window


@dataclass(frozen=True, slots=True)
class Series:
    """All runs of one check, and what it says of the baseline."""

    item: Item
    baseline: CheckResult
    runs: tuple[Run, ...]

    @property
    def decisive(self) -> Run:
        """The run to show: the last that did not pass, or else the last."""
        return next((run for run in reversed(self.runs) if not run.result.passed), self.runs[-1])


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
        while not _answered(item, baseline, [run.result for run in runs], repeat, case.docket.ticket.preserve):
            runs.append(await self._run(case, sandbox, item))
        while len(runs) < _SURE and any(loss.service in sandbox.forks for loss in _bypassed(case, sandbox.forks, runs)):
            runs.append(await self._run(case, sandbox, item))
        return Series(item, baseline, tuple(runs))

    async def _confirmed(self, case: Case, sandbox: Sandbox, series: Sequence[Series]) -> list[Series]:
        """The series, with the red of the baseline taken back where the untouched code, forked as the change was, is
        green now: of the ticket's own checks, and of those that excuse what fails with the change."""
        red = [one.item for one in series if (_red if one.item.own else _excuses)(one)]
        again = await self._book.confirm(case.docket, red, sorted(sandbox.forks)) if red else {}
        return [_still_red(one, again.get(one.item.name)) for one in series]

    async def _run(self, case: Case, sandbox: Sandbox, item: Item) -> Run:
        began = time.time()
        since = await self._driver.cursor()
        target = Target.of(sandbox, case.docket.system.entry)
        result = await self._examiner.examine(item, target, case.docket.base)
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
            checks=tuple(_check_facts(case, one, generations) for one in series),
            planted=(),
            records=record_facts(windows, generations),
            baseline=BaselineFacts(before[0], after[0], before[1], after[1]),
            repeat=case.docket.repeat,
            preserve=case.docket.ticket.preserve,
            lost=_merged(lost_towards(window, unreached, system) for window in windows),
        )


def _red(series: Series) -> bool:
    return series.baseline.outcome == "fail"


def _excuses(series: Series) -> bool:
    """Whether only what the baseline said, perhaps long ago, keeps the check from counting against the change."""
    baseline = series.baseline
    return not (baseline.passed or baseline.flaky or any(run.result.passed for run in series.runs))


def _still_red(series: Series, again: CheckResult | None) -> Series:
    if again is None or again.outcome == "fail":
        return series
    if not series.item.own:
        return replace(series, baseline=again) if again.passed else series
    said = again.detail or "it passes in a new fork of the untouched code"
    detail = f"it did not stay red there: {said}"
    return replace(series, baseline=replace(again, outcome="unjudged", detail=detail, flaky=True))


def _answered(item: Item, baseline: CheckResult, results: Sequence[CheckResult], repeat: int, preserve: bool) -> bool:
    """Whether a check has been asked often enough."""
    if not results:
        return False
    if baseline.flaky and not item.own:
        return results[-1].passed or len(results) >= _NEVER
    counts = baseline.passed or item.own
    settled = item.own and not preserve and baseline.outcome != "fail"
    if not counts or settled:
        return True
    passes = [result.passed for result in results]
    if not any(passes):
        return len(passes) >= _NOT_TWICE
    needed = repeat if item.own or not all(passes) else 1
    held = len(passes) >= needed and all(passes[-needed:])
    return held or len(passes) >= 2 * repeat + 2


def _check_facts(case: Case, series: Series, generations: Mapping[str, int]) -> CheckFacts:
    hops: Counter[str] = sum((served(run.window, generations) for run in series.runs), Counter())
    failing = [run for run in series.runs if not run.result.passed]
    lost = tuple(sorted(_bypassed(case, generations, series.runs), key=lambda loss: (loss.service, loss.callee)))
    if failing:
        # With many agents at once one stray may be somebody else's; the same one in every run is ours.
        found = [
            set(lost_towards(run.window, set(generations) - set(served(run.window, generations)), case.docket.system))
            for run in failing
        ]
        lost = tuple(sorted(set.intersection(*found), key=lambda loss: (loss.service, loss.callee)))
    return CheckFacts(
        name=series.item.name,
        own=series.item.own,
        baseline=series.baseline.outcome,
        runs=tuple(run.result.outcome for run in series.runs),
        forks=tuple(sorted(hops)),
        lost=lost,
        detail=series.decisive.result.detail,
        baseline_detail=series.baseline.detail,
        baseline_flaky=series.baseline.flaky,
    )


def _bypassed(case: Case, forks: Iterable[str], runs: Sequence[Run]) -> frozenset[Lost]:
    """Where a check that passed asked the baseline for what is forked, in each of its runs."""
    known = frozenset(forks)
    if not runs or not all(run.result.passed for run in runs):
        return frozenset()
    return frozenset.intersection(*(frozenset(lost_towards(run.window, known, case.docket.system)) for run in runs))


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
