"""A series: the runs of one check in one trial, how many of them there must be, and what they come to.

Pure. Where the key was lost is told by the windows of all runs: with many agents at once one stray may be somebody
else's, the same one in every run is ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from harness.validation.bench import Item
from harness.validation.facts import CheckFacts
from harness.validation.results import CheckResult
from harness.validation.windows import aside, errors, lost_towards, mistaken, served
from sandbox.driver import Window
from sandbox.hops import Lost
from sandbox.service import System

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
    """All runs of one check in the sandbox, and what it says of the baseline."""

    item: Item
    baseline: CheckResult
    runs: tuple[Run, ...]

    @property
    def decisive(self) -> Run:
        """The run to show: the last that did not pass, or else the last."""
        return next((run for run in reversed(self.runs) if not run.result.passed), self.runs[-1])

    @property
    def leans_on_red(self) -> bool:
        """Whether it counts as it does only since the baseline was red, perhaps long ago: the ticket's own must have
        been, and of another that excuses what fails with the change."""
        if self.item.own:
            return self.baseline.outcome == "fail"
        return not (self.baseline.passed or self.baseline.flaky or any(run.result.passed for run in self.runs))

    def asked_again(self, again: CheckResult | None) -> Series:
        """The series, with the red of the baseline taken back where `again`, asked of the untouched code by now, is
        not."""
        if again is None or again.outcome == "fail":
            return self
        if not self.item.own:
            return replace(self, baseline=again) if again.passed else self
        said = again.detail or "it passes in a new fork of the untouched code"
        detail = f"it did not stay red there: {said}"
        return replace(self, baseline=replace(again, outcome="unjudged", detail=detail, flaky=True))

    def is_suspicious(self, forks: Iterable[str], system: System) -> bool:
        """Whether it passes and must be asked once more, since a fork seems to have asked the baseline for another
        one."""
        known = frozenset(forks)
        return len(self.runs) < _SURE and any(loss.service in known for loss in self._bypassed(known, system))

    def facts(self, generations: Mapping[str, int], system: System) -> CheckFacts:
        """What is known by it; `generations` of the forks."""
        hops: Counter[str] = sum((served(run.window, generations) for run in self.runs), Counter())
        return CheckFacts(
            name=self.item.name,
            own=self.item.own,
            baseline=self.baseline.outcome,
            runs=tuple(run.result.outcome for run in self.runs),
            forks=tuple(sorted(hops)),
            lost=tuple(sorted(self._lost(generations, system), key=lambda loss: (loss.service, loss.callee))),
            unasked=tuple(sorted(self._asked(generations) - set(hops))),
            passed_over=tuple(sorted(self._passed_over())),
            detail=self.decisive.result.detail,
            baseline_detail=self.baseline.detail,
            baseline_flaky=self.baseline.flaky,
        )

    @property
    def _always_passed(self) -> bool:
        return bool(self.runs) and all(run.result.passed for run in self.runs)

    def _asked(self, forks: Iterable[str]) -> frozenset[str]:
        """Of which forks it asked the services on the baseline."""
        return frozenset(hop.service for hop in self.baseline.seen.hops) & frozenset(forks)

    def _bypassed(self, forks: Iterable[str], system: System) -> frozenset[Lost]:
        """Where it passed and asked the baseline for what is forked, or with a key that nobody has, in each run."""
        known = frozenset(forks)
        if not self._always_passed:
            return frozenset()

        def of(window: Window) -> frozenset[Lost]:
            unasked = self._asked(known) - {hop.service for hop in window.hops if hop.served_by == "fork"}
            return frozenset((*lost_towards(window, known, system), *mistaken(window), *aside(window, unasked, system)))

        return frozenset.intersection(*(of(run.window) for run in self.runs))

    def _passed_over(self) -> frozenset[str]:
        """Errors of forks in each run, all of which passed."""
        if not self._always_passed:
            return frozenset()
        return frozenset.intersection(*(errors(run.window, self.baseline) for run in self.runs))

    def _lost(self, generations: Mapping[str, int], system: System) -> Iterable[Lost]:
        failing = [run.window for run in self.runs if not run.result.passed]
        if not failing:
            return self._bypassed(generations, system)
        return set.intersection(
            *(
                set(lost_towards(window, set(generations) - set(served(window, generations)), system))
                for window in failing
            )
        )


def answered(item: Item, baseline: CheckResult, results: Sequence[CheckResult], repeat: int, preserve: bool) -> bool:
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
