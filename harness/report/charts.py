"""The shapes of a page's charts, in units of a drawing `WIDTH` wide. Only numbers are made here; the page draws."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from harness.report.spans import WORKING
from harness.report.values import Report, TicketReport
from harness.report.words import amount, money, percent
from tasks.text import span

WIDTH: Final = 960.0
LEFT: Final = 56.0
"""Where the plot of a chart over time begins; the scale stands before it."""
RIGHT: Final = 950.0
_TOP: Final = 24.0
_MOST_TICKS: Final = 8
_MOST_BARS: Final = 15
_STEPS_S: Final = (0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on a scale, and what is written there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Area:
    """A filled shape of one kind (a state): an SVG path."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart over time."""

    height: float
    bottom: float
    areas: tuple[Area, ...]
    line: str
    """A path over the areas; empty where there is none."""
    limit: float | None
    """Where the line of a limit lies; None where it is far away or none is known."""
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a bar that stands for a whole."""

    kind: str
    label: str
    count: str
    share: str
    x: float
    width: float

    @property
    def roomy(self) -> bool:
        """Whether its sign and count fit on it."""
        return self.width > 9 * len(self.count) + 24


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of several."""

    label: str
    text: str
    width: float
    """From 0 to 100."""


def time_ticks(seconds: float, left: float, right: float) -> tuple[Tick, ...]:
    """A scale from 0 to `seconds` that lies between `left` and `right`."""
    if seconds <= 0:
        return (Tick(left, "0"),)
    step = next((step for step in _STEPS_S if seconds / step <= _MOST_TICKS), 0.0)
    step = step or 86_400 * math.ceil(seconds / 86_400 / _MOST_TICKS)
    size, unit = (1, "s") if step < 60 else (60, "min") if step < 3600 else (3600, "h")
    return tuple(
        Tick(left + (right - left) * index * step / seconds, f"{index * step / size:g} {unit}" if index else "0")
        for index in range(int(seconds / step) + 1)
    )


def concurrency(report: Report) -> Plot:
    """How many agents worked at once, by state, and how many model calls were in flight."""
    height, bottom, course = 250.0, 225.0, report.course
    rows = [course.working[state] for state in WORKING]
    sums = [sum(row[place] for row in rows) for place in range(len(course.calls))]
    limit = report.throughput.agents_limit
    most = max(1.0, float(report.throughput.peak), *course.calls)
    shown = limit is not None and limit <= 2 * most
    up = _scale(max(most, float(limit or 0) if shown else 0.0))
    y = _heights(up[-1], bottom)
    base, areas = [0.0] * len(sums), []
    for state, row in zip(WORKING, rows, strict=True):
        top = [low + more for low, more in zip(base, row, strict=True)]
        if any(row):
            areas.append(Area(state, _band([y(value) for value in base], [y(value) for value in top])))
        base = top
    return Plot(
        height=height,
        bottom=bottom,
        areas=tuple(areas),
        line=_steps([y(value) for value in course.calls]) if any(course.calls) else "",
        limit=y(float(limit)) if shown and limit else None,
        across=time_ticks(report.seconds, LEFT, RIGHT),
        up=tuple(Tick(y(value), f"{value:g}") for value in up),
    )


def spending(report: Report) -> Plot | None:
    """What had been spent by when; None where nothing was."""
    spent = report.course.spent_usd
    if not spent or spent[-1] <= 0:
        return None
    height, bottom = 180.0, 155.0
    up = _scale(spent[-1])
    y = _heights(up[-1], bottom)
    return Plot(
        height=height,
        bottom=bottom,
        areas=(Area("money", _band([bottom] * len(spent), [y(value) for value in spent])),),
        line="",
        limit=None,
        across=time_ticks(report.seconds, LEFT, RIGHT),
        up=tuple(Tick(y(value), f"{value:g}") for value in up),
    )


def outcomes(report: Report) -> tuple[Slice, ...]:
    """The tickets by state."""
    return _slices([(state, state, float(count), str(count)) for state, count in report.states.items()])


def tokens(report: Report) -> tuple[Slice, ...]:
    """The tokens of all model calls by kind."""
    sums = report.totals.tokens
    kinds = (
        ("cache-read", "read from the cache", sums.cache_read),
        ("cache-write", "read and written to the cache", sums.cache_write),
        ("fresh", "read without the cache", sums.input),
        ("output", "written by the model", sums.output),
    )
    return _slices([(kind, label, float(count), amount(count)) for kind, label, count in kinds if count])


def states(report: Report) -> tuple[Slice, ...]:
    """The working time of all agents by state."""
    spent: Counter[str] = Counter()
    for ticket in report.tickets:
        spent.update(ticket.by_state())
    return _slices([(state, state, spent[state], span(spent[state])) for state in WORKING if spent[state] > 0])


def times(ticket: TicketReport) -> tuple[Slice, ...]:
    """The time of one ticket by state, without the queue."""
    spent = [(state, seconds) for state, seconds in ticket.by_state().items() if state in WORKING and seconds > 0]
    return _slices([(state, state, seconds, span(seconds)) for state, seconds in spent])


def dearest(report: Report) -> tuple[Bar, ...]:
    """The tickets that took the most money or, where nothing has a price, the most tokens; then all others together."""
    priced = report.totals.cost_usd > 0
    rows = [(ticket.ticket, ticket.cost_usd if priced else float(ticket.tokens.total)) for ticket in report.tickets]
    rows = sorted((row for row in rows if row[1] > 0), key=lambda row: -row[1])
    shown, rest = rows[:_MOST_BARS], rows[_MOST_BARS:]
    if not shown:
        return ()
    most = shown[0][1]
    say = money if priced else amount
    bars = [Bar(label, say(value), 100 * value / most) for label, value in shown]
    if rest:
        mean = sum(value for _, value in rest) / len(rest)
        bars.append(Bar(f"{len(rest)} others, each on average", say(mean), 100 * mean / most))
    return tuple(bars)


def _slices(parts: Sequence[tuple[str, str, float, str]]) -> tuple[Slice, ...]:
    whole, x, slices = sum(value for *_, value, _ in parts), 0.0, []
    for kind, label, value, count in parts:
        width = WIDTH * value / whole
        slices.append(Slice(kind, label, count, percent(value / whole), x, width))
        x += width
    return tuple(slices)


def _scale(most: float) -> list[float]:
    """Round numbers from 0 to at least `most`."""
    size = 10.0 ** math.floor(math.log10(most / 4))
    step = next(size * factor for factor in (1, 2, 5, 10) if most / (size * factor) <= 5)
    if most >= 1 and step < 1 and most == int(most):
        step = 1.0
    return [step * index for index in range(math.ceil(most / step - 1e-9) + 1)]


def _heights(most: float, bottom: float) -> Callable[[float], float]:
    """From a value to its place between the bottom and the top of a plot."""
    return lambda value: bottom - (bottom - _TOP) * value / most


def _band(low: Sequence[float], high: Sequence[float]) -> str:
    """What lies between two stepped lines, as a closed path."""
    width = (RIGHT - LEFT) / len(low)
    there = "".join(f"V{y:.1f}H{LEFT + width * (index + 1):.1f}" for index, y in enumerate(high))
    back = "".join(f"V{low[index]:.1f}H{LEFT + width * index:.1f}" for index in reversed(range(len(low))))
    return f"M{LEFT:.1f} {low[0]:.1f}{there}{back}Z"


def _steps(values: Sequence[float]) -> str:
    width = (RIGHT - LEFT) / len(values)
    steps = "".join(f"V{y:.1f}H{LEFT + width * (index + 1):.1f}" for index, y in enumerate(values))
    return f"M{LEFT:.1f} {values[0]:.1f}{steps}"
