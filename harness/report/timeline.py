"""The agents over time: a strip a ticket, usable with a hundred tickets and with a thousand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.report.charts import Area, Tick, time_ticks
from harness.report.values import Report, TicketReport
from harness.report.words import STATE_SIGNS
from tasks.states import is_final
from tasks.text import one_line, span

MOST_STRIPS: Final = 1_000
_LABELLED: Final = 120
"""Up to so many strips each has its ticket's name beside it."""
_WIDE: Final = 13.0
"""A span of this width has room for its sign."""
_NAME: Final = 26
_WAITING: Final = ("queued", "paused")
_TOP: Final = 20.0
_END: Final = 930.0


@dataclass(frozen=True, slots=True)
class Letter:
    """The sign of a state on its span."""

    x: float
    kind: str
    sign: str


@dataclass(frozen=True, slots=True)
class Strip:
    """One ticket."""

    y: float
    label: str
    title: str
    """What a pointer on it shows."""
    areas: tuple[Area, ...]
    letters: tuple[Letter, ...]
    end_x: float
    end_kind: str
    """Its final state; empty where it has not ended."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The whole chart."""

    height: float
    row: float
    """The height of a strip with its gap."""
    left: float
    right: float
    labelled: bool
    strips: tuple[Strip, ...]
    ticks: tuple[Tick, ...]
    every: int
    """One of so many tickets is drawn."""


def timeline(report: Report) -> Timeline:
    """Strips in the order in which the tickets began."""
    every = -(-len(report.tickets) // MOST_STRIPS) or 1
    shown = sorted(report.tickets, key=_began)[::every]
    row, labelled = _row(len(shown)), len(shown) <= _LABELLED
    left = 210.0 if labelled else 10.0
    scale = (_END - left) / report.seconds if report.seconds > 0 else 0.0
    strips = tuple(_strip(ticket, _TOP + row * index, row, left, scale, labelled) for index, ticket in enumerate(shown))
    return Timeline(
        height=_TOP + row * len(shown) + 8,
        row=row,
        left=left,
        right=_END,
        labelled=labelled,
        strips=strips,
        ticks=time_ticks(report.seconds, left, _END),
        every=every,
    )


def _began(ticket: TicketReport) -> float:
    return next((one.began for one in ticket.spans if one.state != "queued"), float("inf"))


def _row(strips: int) -> float:
    return 20.0 if strips <= 40 else 15.0 if strips <= _LABELLED else 5.0 if strips <= 400 else 2.0


def _strip(ticket: TicketReport, y: float, row: float, left: float, scale: float, labelled: bool) -> Strip:
    thick = row - 3 if labelled else row - 0.5
    paths: dict[str, list[str]] = {}
    letters = []
    for one in ticket.spans:
        x, width = left + one.began * scale, max(0.4, one.seconds * scale)
        waits = one.state in _WAITING
        if waits and not labelled:
            # Lines this close to one another would be a grey field.
            continue
        top, tall = (y + thick / 2 - 0.5, 1.0) if waits else (y, thick)
        paths.setdefault(one.state, []).append(f"M{x:.1f} {top:.1f}h{width:.1f}v{tall:.1f}h-{width:.1f}z")
        if labelled and not waits and width >= _WIDE:
            letters.append(Letter(x + width / 2, one.state, STATE_SIGNS.get(one.state, "")))
    return Strip(
        y=y,
        label=one_line(ticket.ticket, _NAME),
        title=_title(ticket),
        areas=tuple(Area(state, "".join(path)) for state, path in paths.items()),
        letters=tuple(letters),
        end_x=left + max((one.ended for one in ticket.spans), default=0.0) * scale,
        end_kind=ticket.state if is_final(ticket.state) else "",
    )


def _title(ticket: TicketReport) -> str:
    took = ", ".join(f"{state} {span(seconds)}" for state, seconds in ticket.by_state().items())
    return f"{one_line(ticket.ticket)}: {ticket.state}, {ticket.iterations} iterations; {took}"
