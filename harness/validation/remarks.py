"""What is said of a commit besides what objects to it, in words for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from harness.validation.facts import Facts
from sandbox.hops import Lost

_SHOWN: Final = 3


def praise(facts: Facts) -> str:
    """What speaks for it."""
    own = facts.own_checks
    others = sum(check.baseline == "pass" for check in facts.checks if not check.own)
    rest = f"{others} other check{'' if others == 1 else 's'} hold{'s' if others == 1 else ''}"
    if not own:
        return f"verified for regressions only, the ticket has no check of its own: {rest}"
    turned = sum(check.turned(facts.repeat) for check in own)
    kept = len(own) - turned
    said = [f"{turned} of the ticket's checks turned from red to green"] if turned else []
    if kept:
        said.append(f"{kept} hold as before" if turned else f"{kept} of the ticket's checks hold as before")
    return f"{', '.join(said)}; {rest}"


def notes(facts: Facts) -> Iterable[str]:
    """What a reader must know besides: see Judgement."""
    for check in facts.checks:
        if check.flaky:
            yield f"check {check.name!r} is flaky on the same commit: {' '.join(check.runs)}"
        if not check.own and check.baseline != "pass":
            how = "is flaky" if check.baseline_flaky else "fails" if check.baseline == "fail" else "cannot run"
            yield f"check {check.name!r} cannot be judged: it {how} on the baseline too, which is the baseline's fault"
        if check.lost and check.always_passes:
            yield f"check {check.name!r} did not ask the change on all of its ways: {lost_at(check.lost[0])}"
        elif check.unasked and check.always_passes:
            yield f"check {check.name!r} asked {named(check.unasked)} on the baseline, and never the change of it"
        if check.passed_over:
            yield f"check {check.name!r} passes though {named(check.passed_over)}"
    for static in facts.static or ():
        if static.outcome != "pass" and static.base not in (None, "pass"):
            yield f"static check {static.command!r} cannot be judged, it does not pass on the base commit either"
    if facts.scope.unjudged:
        yield f"nothing that runs can prove the change of {named(facts.scope.unjudged)}"
    if facts.scope.added:
        yield f"adds {named(facts.scope.added)}, which did not judge this change"


def lost_at(lost: Lost) -> str:
    """Where a key was lost, in one clause."""
    return f"the routing key was lost at {lost.service}, which called {lost.callee} without it"


def named(names: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
