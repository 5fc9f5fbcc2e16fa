"""What limited a run's pace: an honest statement out of the waits in front of limits and of how many worked at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from harness.report.spans import WORKING, levels, number
from harness.report.values import Hold, Span, Throughput, Waited
from harness.report.words import percent, plural
from tasks.events import Event
from tasks.text import one_line, span

WORTH_SAYING: Final = 0.01
"""A share below this limited nothing."""
_LONG: Final = 0.8
"""A ticket that takes this share of a run is why the run is not shorter."""

_LIMITS: Final = {
    "agents": "a slot among the agents",
    "model_calls": "a place among the model calls in flight",
    "sandboxes": "a place among the sandboxes being created",
    "forks": "a place among the forks starting",
    "checks": "a place among the checks running",
    "deletions": "a place among the sandboxes being deleted",
}


def waits_of(events: Iterable[Event]) -> dict[str, dict[str, float]]:
    """Seconds in front of each limit, by ticket."""
    found: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for event in events:
        if event.kind == "agent.waited" and event.ticket is not None:
            found[event.ticket][str(event.data.get("for"))] += number(event.data.get("seconds"))
    return {ticket: dict(waits) for ticket, waits in found.items()}


def throughput_of(
    events: Sequence[Event],
    spans: Mapping[str, Sequence[Span]],
    *,
    agents_limit: int | None,
    began_at: float,
    seconds: float,
) -> Throughput:
    """`agents_limit` is what the settings say; where the run notes its limits, that holds."""
    waits = waits_of(events)
    limits = [event for event in events if event.kind == "run.limits"]
    slots = [(0.0, agents_limit or 0)]
    for event in limits:
        slots.append((event.at - began_at, int(number(event.data.get("agents"))) or slots[-1][1]))
    # What the settings say held for nobody where the run noted its own at once.
    slots[:1] = [] if len(slots) > 1 else slots[:1]
    working = levels(spans, WORKING)
    worked = _agent_seconds(spans, WORKING)
    took = {ticket: _agent_seconds({ticket: found}, WORKING) for ticket, found in spans.items()}
    longest = max(took, key=lambda ticket: took[ticket], default=None)
    measured = Throughput(
        agents_limit=slots[-1][1] or None,
        peak=max((level for _, level in working), default=0),
        mean=worked / seconds if seconds > 0 else 0.0,
        full_share=_full(working, levels(spans, ("queued",)), slots, seconds),
        longest=longest,
        longest_seconds=took[longest] if longest is not None else 0.0,
        waits_noted=bool(limits) or bool(waits),
        waits=_waited(waits, worked, _agent_seconds(spans, ("queued",))),
        holds=tuple(
            Hold(event.at - began_at, one_line(str(event.data.get("reason") or "it is not said why")))
            for event in events
            if event.kind == "fleet.held"
        ),
        sentences=(),
    )
    least, most = min(limit for _, limit in slots), max(limit for _, limit in slots)
    return _told(measured, seconds, f"{most}" if least == most else f"{least} to {most}")


def _agent_seconds(spans: Mapping[str, Sequence[Span]], states: Sequence[str]) -> float:
    return sum(span.seconds for found in spans.values() for span in found if span.state in states)


def _waited(waits: Mapping[str, Mapping[str, float]], worked: float, queued: float) -> tuple[Waited, ...]:
    """By limit, the longest first. Who waits for a slot does not work yet: that is a share of the queue."""
    found = []
    for limit in sorted({limit for of_ticket in waits.values() for limit in of_ticket}):
        each = [of_ticket[limit] for of_ticket in waits.values() if of_ticket.get(limit)]
        whole = queued if limit == "agents" else worked
        found.append(Waited(limit, sum(each), len(each), min(1.0, sum(each) / whole) if whole else 0.0))
    return tuple(sorted(found, key=lambda waited: -waited.seconds))


def _full(
    working: Sequence[tuple[float, int]],
    queued: Sequence[tuple[float, int]],
    slots: Sequence[tuple[float, int]],
    seconds: float,
) -> float:
    """The share of the run in which as many agents worked as there were `slots` then, and somebody was queued."""
    if seconds <= 0:
        return 0.0
    marks = sorted(
        (at, which, level)
        for which, found in (("queued", queued), ("slots", slots), ("working", working))
        for at, level in found
    )
    now, full = {"queued": 0, "slots": 0, "working": 0}, 0.0
    for (at, which, level), (following, *_) in pairwise([*marks, (seconds, "", 0)]):
        now[which] = level
        if 0 < now["slots"] <= now["working"] and now["queued"]:
            full += max(0.0, following - at)
    return min(1.0, full / seconds)


def _told(measured: Throughput, seconds: float, slots: str) -> Throughput:
    said = []
    if measured.full_share >= WORTH_SAYING:
        said.append(
            f"Every slot for agents ({slots}) was taken, with tickets waiting for one, for "
            f"{percent(measured.full_share)} of the run."
        )
    said += [
        f"{plural(waited.tickets, 'ticket')} waited for {_LIMITS.get(waited.limit, one_line(waited.limit))}: "
        f"{span(waited.seconds)} in all, {percent(waited.share)} of all "
        f"{'time in the queue' if waited.limit == 'agents' else 'working time'}."
        for waited in measured.waits
        if waited.share >= WORTH_SAYING
    ]
    said += [f"Everybody was held from {span(hold.began)} on: {hold.reason}." for hold in measured.holds]
    share = measured.longest_seconds / seconds if seconds > 0 else 0.0
    longest = (
        f"The longest ticket, {measured.longest}, took {span(measured.longest_seconds)} of {span(seconds)}: "
        f"{percent(share)} of the run."
        if measured.longest is not None and measured.longest_seconds > 0
        else ""
    )
    if not said and longest:
        said.append("No limit did." if measured.waits_noted else "The slots for agents did not.")
        said.append(longest)
        if share < _LONG:
            said.append("The rest went into starting and ending, or into tickets that waited for one another.")
    elif share >= _LONG:
        said.append(longest)
    if not measured.waits_noted:
        said.append("This run did not note its waits in front of other limits.")
    if measured.peak:
        of = f" of {slots} allowed" if measured.agents_limit else ""
        said.append(f"{measured.mean:.1f} agents worked at once on average, {measured.peak} at most{of}.")
    return replace(measured, sentences=tuple(said))
