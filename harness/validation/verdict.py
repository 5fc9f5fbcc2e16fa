"""The verdict: facts in, conclusion out. Pure.

The seven rules of 'verified' are questions asked in turn; the first that objects decides. `verified` is what is left
when none does, so only a question that was forgotten could make it false: the tests ask for each rule by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from graphs.ports import Conclusion
from harness.validation.facts import CheckFacts, Facts, ForkFacts
from harness.validation.remarks import lost_at, named, notes, praise
from sandbox.hops import Lost


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the facts come to."""

    conclusion: Conclusion
    reason: str
    """One line for people."""
    returns: bool = False
    """Whether the agent can do something about it; otherwise the conclusion is final."""
    failing: tuple[str, ...] = ()
    """Names of the checks that speak against the commit."""
    notes: tuple[str, ...] = ()
    """What a reader must know besides: flaky checks, checks that could not be judged, paths nothing can prove."""


def judge(facts: Facts) -> Judgement:
    """The verdict on one commit. Whatever is not known counts against it."""
    found = next((objection for ask in _QUESTIONS if (objection := ask(facts)) is not None), None)
    return replace(found or Judgement("verified", praise(facts)), notes=tuple(notes(facts)))


def judge_scope(facts: Facts) -> Judgement | None:
    """What can be said before anything is started: protected paths, paths outside of the ticket, nothing changed."""
    return _scope(facts)


def _scope(facts: Facts) -> Judgement | None:
    scope = facts.scope
    if scope.altered:
        return Judgement("needs_human", f"it alters what judges it: {named(scope.altered)}")
    if scope.outside:
        return Judgement("needs_human", f"it changes what the ticket does not allow: {named(scope.outside)}")
    if scope.submodules:
        reason = f"it changes the submodule {named(scope.submodules)}, of whose code no fork has any"
        return Judgement("unproven", reason, returns=True)
    if scope.leading_out:
        reason = f"it makes {named(scope.leading_out)} lead out of the commit: whatever lies there is no part of it"
        return Judgement("unproven", reason, returns=True)
    if not scope.services:
        what = f"only {named(scope.unjudged)} changed" if scope.unjudged else "nothing changed"
        return Judgement("failed", f"no service was changed: {what}", returns=True)
    return None


def _static(facts: Facts) -> Judgement | None:
    if facts.static is None:
        return Judgement("unproven", "the static checks were not run")
    for check in facts.static:
        if check.outcome != "pass" and (check.base is None or check.base == "pass"):
            return Judgement("failed", f"static check {check.command!r}: {check.detail}", returns=True)
    return None


def _sources(facts: Facts) -> Judgement | None:
    """Rule 1: the forks ran the commit and nothing else."""
    running = {fork.service for fork in facts.forks}
    missing = [service for service in facts.scope.services if service not in running]
    if missing:
        return Judgement("unproven", f"{named(missing)} was changed and not forked")
    for fork in facts.forks:
        if fork.commit != facts.commit:
            return Judgement("unproven", f"the fork of {fork.service} did not run the commit that is judged")
    return None


def _judges(facts: Facts) -> Judgement | None:
    """Rule 2: what judges is the base commit's."""
    if facts.judged_from != facts.base or not facts.judges_intact:
        return Judgement("unproven", "the judging checks were not those of the base commit")
    return None


def _environment(facts: Facts) -> Judgement | None:
    """Rule 6: a healthy baseline of one version, before and after."""
    baseline = facts.baseline
    if baseline is None:
        return Judgement("unproven", "nothing is known of the baseline during the checks")
    if not (baseline.healthy_before and baseline.healthy_after):
        return Judgement("unproven", "the baseline was not healthy during the checks")
    if not baseline.version_before == baseline.version_after == facts.base:
        return Judgement("unproven", "the baseline was not, or did not stay, of the base commit's version")
    return None


def _own_on_baseline(facts: Facts) -> Judgement | None:
    """Rule 3, first half: the ticket's own checks are red on the untouched baseline."""
    for check in facts.own_checks:
        if check.baseline not in ("fail", "pass"):
            said = f": {check.baseline_detail}" if check.baseline_detail else ""
            return Judgement("unproven", f"the ticket's check {check.name!r} cannot be judged on the baseline{said}")
        if check.baseline == "pass" and not facts.preserve:
            return Judgement(
                "unproven", f"the ticket's check {check.name!r} passes on the untouched baseline too: it proves nothing"
            )
    return None


def _something_judges(facts: Facts) -> Judgement | None:
    if not any(check.own or check.baseline == "pass" for check in facts.checks):
        return Judgement("unproven", "there is no check that passes on the baseline and could judge the change")
    return None


def _complete(facts: Facts) -> Judgement | None:
    """Rule 5, first half: no record was lost. What lost it may have failed a check as well, so this is asked first."""
    if facts.records is not None and facts.records.dropped:
        return Judgement("unproven", f"{facts.records.dropped} hop records were lost")
    return None


def _failing(facts: Facts) -> Judgement | None:
    """Rules 3 and 7, and of rule 4 that a change which was never asked has not failed."""
    failing = [check for check in facts.checks if _counts(check) and not check.held(facts.repeat)]
    if not failing:
        return None
    names = tuple(check.name for check in failing)
    asked = [check for check in failing if not check.lost]
    if not asked:
        lost = failing[0].lost[0]
        reason = f"check {failing[0].name!r} never reached the change: {lost_at(lost)}"
        return Judgement("unproven", reason, _by_fork(facts, failing[0].lost), names)
    first = asked[0]
    how = f"is flaky on the same commit ({' '.join(first.runs)})" if first.flaky else "fails"
    more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
    said = f": {first.detail}" if first.detail else ""
    return Judgement("failed", f"check {first.name!r} {how}{more}{said}", True, names)


def _never_passing(facts: Facts) -> Judgement | None:
    """Rule 7, of what is flaky on the baseline: if it never passes with the change, the change may have broken it."""
    for check in facts.checks:
        if check.baseline_flaky and not check.own and "pass" not in check.runs:
            runs = len(check.runs)
            reason = f"check {check.name!r} passes now and then on the baseline, with the change in none of {runs} runs"
            return Judgement("unproven", reason, True, (check.name,))
    return None


def _alive(facts: Facts) -> Judgement | None:
    for fork in facts.forks:
        if not fork.alive:
            return Judgement("failed", f"the fork of {fork.service} died while it was checked", returns=True)
    return None


def _records(facts: Facts) -> Judgement | None:
    """Rule 5, second half: a clean record of every keyed request."""
    records = facts.records
    if records is None:
        return Judgement("unproven", "nothing is known of the requests that the checks made")
    returns = bool(set(records.where) & {fork.service for fork in facts.forks})
    for count, what in (
        (records.refused, "refused by the router"),
        (records.unrouted, "not answered by anybody"),
        (records.old_generation, "served by an old generation of a fork"),
    ):
        if count:
            at = f" at {named(records.where)}" if records.where else ""
            return Judgement("unproven", f"{count} requests of the checks were {what}{at}", returns)
    return None


def _asked_with_key(facts: Facts) -> Judgement | None:
    """Rule 4, of forks that call one another: what passes since one asked the baseline's other has not asked both."""
    forks = {fork.service for fork in facts.forks}
    for check in facts.checks:
        for lost in check.lost if _counts(check) and check.always_passes else ():
            if lost.service in forks:
                reason = f"check {check.name!r} passes without asking all forks on its way: {lost_at(lost)}"
                return Judgement("unproven", reason, returns=True)
    return None


def _own_asked(facts: Facts) -> Judgement | None:
    """Rule 3 with rule 4: what asked no fork has not turned from red to green by the change."""
    for check in facts.own_checks:
        if check.turned(facts.repeat) and not check.forks:
            return Judgement(
                "unproven", f"the ticket's check {check.name!r} turned green, and asked no fork for anything"
            )
    return None


def _reached(facts: Facts) -> Judgement | None:
    """Rule 4, first half: every fork served a request of a check."""
    for fork in _changed(facts):
        if fork.hops > 0 and any(fork.service in check.forks for check in facts.checks):
            continue
        if facts.lost:
            reason = f"no check reached the fork of {fork.service}: {lost_at(facts.lost[0])}"
            return Judgement("unproven", reason, _by_fork(facts, facts.lost))
        return Judgement("unproven", f"no check asked the fork of {fork.service} for anything")
    return None


def _looked(facts: Facts) -> Judgement | None:
    """Rule 4, second half: the checks depend on every fork."""
    for fork in _changed(facts):
        if not (_turned_by(facts, fork) or _missed(facts, fork)):
            return Judgement(
                "unproven", f"the checks do not depend on {fork.service}: all of them pass while it answers 503"
            )
    return None


_QUESTIONS: Final[tuple[Callable[[Facts], Judgement | None], ...]] = (
    _scope,
    _static,
    _sources,
    _judges,
    _environment,
    _own_on_baseline,
    _something_judges,
    _complete,
    _failing,
    _never_passing,
    _alive,
    _records,
    _asked_with_key,
    _own_asked,
    _reached,
    _looked,
)


def needs_fault(facts: Facts) -> tuple[str, ...]:
    """The forks for which no ticket check has turned from red to green by them alone: each needs the planted fault."""
    return tuple(fork.service for fork in _changed(facts) if not _turned_by(facts, fork))


def _changed(facts: Facts) -> list[ForkFacts]:
    """The forks that have something to prove: one left from an earlier commit may run the base's own code again."""
    return [fork for fork in facts.forks if fork.service in facts.scope.services]


def _turned_by(facts: Facts, fork: ForkFacts) -> bool:
    # Where two forks served the same check it may have turned by the other one.
    return any(check.turned(facts.repeat) and check.forks == (fork.service,) for check in facts.checks)


def _missed(facts: Facts, fork: ForkFacts) -> bool:
    sound = {
        check.name
        for check in facts.checks
        if check.held(facts.repeat) and not check.flaky and fork.service in check.forks
    }
    return any(
        plant.service == fork.service and plant.served > 0 and plant.turned_red in sound for plant in facts.planted
    )


def _counts(check: CheckFacts) -> bool:
    """Whether the check's answer in the sandbox counts: the ticket's own, and what passes on the baseline."""
    return check.own or check.baseline == "pass"


def _by_fork(facts: Facts, lost: Iterable[Lost]) -> bool:
    return bool({loss.service for loss in lost} & {fork.service for fork in facts.forks})
