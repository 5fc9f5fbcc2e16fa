"""The hop trace as a drawing: each service a box, each call an arrow from its caller's. Pure.

Callers stand above, what they call hangs below them. A box is drawn once; further arrows into it name it. What a colour
says is said by a shape as well: a fork has a double frame, an arrow at which a check failed ends in `✗`, one on which
the key was lost in `?`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from rich.cells import cell_len

from sandbox.hops import Lost
from sandbox.seen import SeenHop
from sandbox.service import CLIENT
from tasks.text import one_line
from tui.signs import fitted

Look = Literal["", "fork", "failed", "lost", "muted"]
Line = tuple[tuple[str, Look], ...]
"""Texts and what they look like."""
Arrow = tuple[str, str]
"""Caller and service."""

NARROWEST: Final = 16
"""Cells; in fewer nothing can be drawn."""
_ARROW: Final = 3
_FRAMES: Final = {
    "client": "╭─╮│╰╯┬",
    "baseline": "┌─┐│└┘┬",
    "fork": "╔═╗║╚╝╤",
    "both": "┏━┓┃┗┛┯",
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """Lines from top to bottom, none wider than asked for."""

    lines: tuple[Line, ...]
    places: Mapping[Arrow, int] = field(default_factory=dict)
    """In which line each arrow ends."""


def drawing(hops: Sequence[SeenHop], lost: Iterable[Lost], width: int) -> Drawing:
    """All services that are named, in at most `width` cells (`NARROWEST` at least)."""
    graph = _Graph.of(hops, tuple(lost))
    pen = _Pen(graph, max(width, NARROWEST))
    for root in graph.roots:
        pen.box(root, ())
        while pen.waiting:
            # What hung too deep begins anew at the margin.
            pen.box(pen.waiting.popleft(), ())
    return Drawing(tuple(pen.lines), pen.places)


def told(hop: SeenHop) -> str:
    """What was asked and answered, in a line."""
    status = f"gRPC {hop.grpc_status}" if hop.grpc_status else str(hop.status or "no answer")
    times = f" ×{hop.times}" if hop.times > 1 else ""
    return one_line(f"{hop.method} {hop.path} {status}{times}")


def server(hop: SeenHop) -> str:
    """Who served it: `fork g2`, `baseline`, `refused`, `fault`."""
    return f"fork g{hop.generation}" if hop.served_by == "fork" else hop.served_by


@dataclass(frozen=True, slots=True)
class _Graph:
    """Who called whom, and of each service below whose box its own hangs."""

    calls: Mapping[Arrow, tuple[SeenHop, ...]]
    lost: frozenset[Arrow]
    parents: Mapping[str, str]
    roots: tuple[str, ...]

    @classmethod
    def of(cls, hops: Sequence[SeenHop], lost: Sequence[Lost]) -> _Graph:
        calls: dict[Arrow, list[SeenHop]] = {}
        for hop in hops:
            calls.setdefault((hop.caller, hop.service), []).append(hop)
        losing = frozenset((one.service, one.callee) for one in lost)
        for arrow in sorted(losing):
            calls.setdefault(arrow, [])
        telling = {arrow for arrow, some in calls.items() if any(hop.origin for hop in some)} | losing
        parents = _parents(calls, telling)
        names = dict.fromkeys(name for arrow in calls for name in arrow)
        roots = sorted((name for name in names if name not in parents), key=lambda name: name != CLIENT)
        return cls({arrow: tuple(some) for arrow, some in calls.items()}, losing, parents, tuple(roots))

    def from_(self, caller: str) -> list[Arrow]:
        return [arrow for arrow in self.calls if arrow[0] == caller]

    def hangs(self, arrow: Arrow) -> bool:
        """Whether the service's box hangs at this arrow."""
        return self.parents.get(arrow[1]) == arrow[0]

    def into(self, service: str) -> list[SeenHop]:
        return [hop for (_, callee), some in self.calls.items() if callee == service for hop in some]


def _parents(arrows: Iterable[Arrow], telling: set[Arrow]) -> dict[str, str]:
    """The caller below which each service is drawn: where something is to be told, else the nearest to the client."""
    arrows = list(arrows)
    depths = _depths(arrows)
    parents: dict[str, str] = {}
    for caller, service in sorted(arrows, key=lambda one: (one not in telling, depths.get(one[0], len(arrows)))):
        if service not in parents and service != CLIENT and service not in _above(caller, parents):
            parents[service] = caller
    return parents


def _above(name: str, parents: Mapping[str, str]) -> Iterator[str]:
    yield name
    while name in parents:
        name = parents[name]
        yield name


def _depths(arrows: Sequence[Arrow]) -> dict[str, int]:
    """How many calls each service is away from the client."""
    depths, front = {CLIENT: 0}, deque([CLIENT])
    while front:
        caller = front.popleft()
        for service in [callee for one, callee in arrows if one == caller and callee not in depths]:
            depths[service] = depths[caller] + 1
            front.append(service)
    return depths


class _Pen:
    """Draws boxes below one another, and remembers what hangs too deep."""

    def __init__(self, graph: _Graph, width: int) -> None:
        self._graph, self._width = graph, width
        self.lines: list[Line] = []
        self.places: dict[Arrow, int] = {}
        self.waiting: deque[str] = deque()

    def box(self, name: str, rail: Line, *, arrow: Arrow | None = None, last: bool = True) -> None:
        """A service and all that hangs below it. `rail` are the lines of those above that go on past it, `arrow` where
        it hangs itself; the last one at a rail ends it."""
        into, kind = self._graph.into(name), self._kind(name)
        look: Look = "fork" if kind in ("fork", "both") else ""
        frame, below = _FRAMES[kind], self._graph.from_(name)
        indent = _cells(rail) + (1 + _ARROW) * (arrow is not None)
        shown = fitted(one_line(name), min(cell_len(one_line(name)), self._width - indent - 4))
        inside = frame[1] * (cell_len(shown) + 2)
        foot = (frame[6] + inside[1:]) if below else inside
        past: Line = ((" " if last else "│", "muted"), (" " * _ARROW, "")) if arrow else ()
        hold: Line = (("│", "muted"), (" " * _ARROW, "")) if arrow else ()
        self._add((*rail, *hold, (frame[0] + inside + frame[2], look)))
        head: Line = ()
        if arrow is not None:
            self.places[arrow] = len(self.lines)
            head = (("└" if last else "├", "muted"), *self._head(arrow))
        said = self._said(arrow) if arrow else ()
        self._add((*rail, *head, (f"{frame[3]} {shown} {frame[3]}", look), *self._who(name, into), *said))
        what = self._calls(arrow) if arrow else ()
        self._add((*rail, *past, (frame[4] + foot + frame[5], look), *what))
        inner = (*rail, *past, (" ", ""))
        for nth, one in enumerate(below, 1):
            self._hang(one, inner, last=nth == len(below))

    def _hang(self, arrow: Arrow, rail: Line, *, last: bool) -> None:
        name = one_line(arrow[1])
        room = self._width - _cells(rail) - 1 - _ARROW - 4
        if self._graph.hangs(arrow) and room >= min(cell_len(name), self._width - 4):
            self.box(arrow[1], rail, arrow=arrow, last=last)
            return
        self.places[arrow] = len(self.lines)
        note = "itself" if arrow[0] == arrow[1] else "elsewhere"
        if self._graph.hangs(arrow):
            self.waiting.append(arrow[1])
            note = "below"
        head = (*rail, ("└" if last else "├", "muted"), *self._head(arrow))
        self._add((*head, (f" {name} ({note})", ""), *self._said(arrow), *self._calls(arrow)))

    def _kind(self, name: str) -> str:
        if name == CLIENT:
            return "client"
        forked = {hop.served_by == "fork" for hop in self._graph.into(name)}
        return "both" if len(forked) == 2 else "fork" if True in forked else "baseline"

    def _who(self, name: str, into: Sequence[SeenHop]) -> Line:
        if name == CLIENT or not into:
            return ()
        who = dict.fromkeys(server(hop) for hop in into)
        return ((f" {' and '.join(who)}", "fork" if any(hop.served_by == "fork" for hop in into) else "muted"),)

    def _head(self, arrow: Arrow) -> Line:
        if arrow in self._graph.lost:
            return (("╌╌?", "lost"),)
        return (("━━✗", "failed"),) if self._failed(arrow) else (("──▶", "muted"),)

    def _said(self, arrow: Arrow) -> Line:
        lost: Line = (("  ? the key was lost here", "lost"),) if arrow in self._graph.lost else ()
        failed: Line = (("  ✗ failed here", "failed"),) if self._failed(arrow) else ()
        return (*failed, *lost)

    def _failed(self, arrow: Arrow) -> bool:
        return any(hop.origin for hop in self._graph.calls[arrow])

    def _calls(self, arrow: Arrow) -> Line:
        """The call that says most, and how many others there were."""
        hops = self._graph.calls[arrow]
        if not hops:
            return ()
        first = min(hops, key=lambda hop: (not hop.origin, not hop.failed, -hop.times))
        others = len(hops) - 1
        more = f" and {others} other{'s' * (others > 1)}" if others else ""
        return ((f"  {told(first)}", "failed" if first.origin else "muted"), (more, "muted"))

    def _add(self, line: Line) -> None:
        """The line, cut where the width ends."""
        kept, room = [], self._width
        for text, look in line:
            if room > 0 and text:
                kept.append((text if cell_len(text) <= room else fitted(text, room), look))
                room -= cell_len(kept[-1][0])
        self.lines.append(tuple(kept))


def _cells(line: Line) -> int:
    return sum(cell_len(text) for text, _ in line)
