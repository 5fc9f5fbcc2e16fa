"""The run as a line of time: how long each agent was in each state, and how many were in it at once.

Clocks jump and processes are killed: time never runs backwards here, and what lies between the last word of one
process and the first of the next belongs to nobody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from harness.report.values import Course, Span
from tasks.events import Event
from tasks.states import WORKING_STATES, is_final

WORKING: Final = tuple(state for state in WORKING_STATES if state not in ("queued", "paused"))
"""The states in which an agent holds a slot."""
STEPS: Final = 120
_BEGINNINGS: Final = ("run.started", "run.resumed")


def absences(events: Iterable[Event], began_at: float) -> list[tuple[float, float]]:
    """From when to when no process worked on the run, in order."""
    found: list[tuple[float, float]] = []
    last, begun = began_at, False
    for event in events:
        kind: str = event.kind
        if kind in _BEGINNINGS:
            if begun and event.at > last:
                found.append((last - began_at, event.at - began_at))
            begun = True
        last = max(last, event.at)
    return found


def spans_of(
    events: Iterable[Event], tickets: Iterable[str], began_at: float, known_at: float
) -> dict[str, tuple[Span, ...]]:
    """Each ticket's spans from its place in the queue to its end, or to `known_at`."""
    away = absences(events, began_at)
    state = dict.fromkeys(tickets, "queued")
    since = dict.fromkeys(state, 0.0)
    spans: dict[str, list[Span]] = {ticket: [] for ticket in state}
    for event in events:
        ticket = event.ticket
        if event.kind != "agent.state" or ticket is None or ticket not in state:
            continue
        now, new = max(event.at - began_at, since[ticket]), str(event.data.get("state"))
        if new != state[ticket] or new == "generating":
            spans[ticket] += _without(Span(state[ticket], since[ticket], now), away)
            state[ticket], since[ticket] = new, now
    for ticket, last in state.items():
        if not is_final(last):
            until = max(known_at - began_at, since[ticket])
            spans[ticket] += _without(Span(last, since[ticket], until), away)
    return {ticket: tuple(found) for ticket, found in spans.items()}


def _without(span: Span, away: Sequence[tuple[float, float]]) -> list[Span]:
    """The parts of `span` in which somebody worked."""
    if is_final(span.state):
        return []
    parts, began = [], span.began
    for left, came in away:
        if left < span.ended and came > began:
            if left > began:
                parts.append(Span(span.state, began, left))
            began = min(came, span.ended)
    return [*parts, Span(span.state, began, span.ended)] if span.ended > began else parts


def levels(spans: Mapping[str, Sequence[Span]], states: Sequence[str]) -> list[tuple[float, int]]:
    """How many agents are in one of `states`: from each moment on, until the next one."""
    change: defaultdict[float, int] = defaultdict(int)
    for of_ticket in spans.values():
        for span in of_ticket:
            if span.state in states:
                change[span.began] += 1
                change[span.ended] -= 1
    found, level = [], 0
    for at in sorted(change):
        level += change[at]
        found.append((at, level))
    return found


def course_of(spans: Mapping[str, Sequence[Span]], events: Iterable[Event], began_at: float, seconds: float) -> Course:
    """The run in `STEPS` steps."""
    step = seconds / STEPS if seconds > 0 else 1.0
    working = {state: [0.0] * STEPS for state in WORKING}
    for of_ticket in spans.values():
        for span in of_ticket:
            if span.state in working:
                _spread(working[span.state], span.began, span.ended, step)
    calls, spent = [0.0] * STEPS, [0.0] * STEPS
    for event in events:
        if event.kind == "model.call":
            at = event.at - began_at
            _spread(calls, at - number(event.data.get("seconds")), at, step)
            spent[_place(at, step)] += number(event.data.get("cost_usd"))
    total, sums = 0.0, []
    for cost in spent:
        total += cost
        sums.append(total)
    return Course(step, {state: tuple(row) for state, row in working.items()}, tuple(calls), tuple(sums))


def number(value: object) -> float:
    """A number of an event's data; 0 where it is none."""
    return float(value) if isinstance(value, int | float) else 0.0


def _place(at: float, step: float) -> int:
    return min(STEPS - 1, max(0, int(at / step)))


def _spread(row: list[float], began: float, ended: float, step: float) -> None:
    """Add to each step the share of it that lies between the two moments."""
    began, ended = max(began, 0.0), min(ended, step * STEPS)
    if ended <= began:
        return
    for place in range(_place(began, step), _place(ended, step) + 1):
        inside = min(ended, (place + 1) * step) - max(began, place * step)
        if inside > 0:
            row[place] += inside / step
