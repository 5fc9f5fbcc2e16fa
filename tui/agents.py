"""The list of agents: one row each, drawn only where it is seen, painted only where it has changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tasks.text import short_span
from tui.feed import Agent
from tui.signs import CLASSES, COLOURS, doing, fitted, sign, style

_NARROW: Final = 60
_WIDE: Final = 96
"""From here on the last verdict has room."""
_TICKET: Final = (8, 28)

Row = tuple[tuple[str, str], ...]
"""A row as texts and the names of their styles (empty: as the rest)."""


class AgentList(ScrollView, can_focus=True):
    """Agents by row, with a cursor that stays on its ticket wherever it goes, and marks."""

    HELP = """\
# Agents

One row each: mark, sign, ticket, state, iteration, time in the state, time since it was heard of, money, last verdict,
and what it does right now. A capital sign is stalled: at work, and silent for two minutes. Actions concern the marked
agents, or the one under the cursor.
"""
    DEFAULT_CSS = f"""
AgentList {{
    height: 1fr;
    background: $background;
    scrollbar-size-vertical: 1;{COLOURS}
    & > .row--head {{ color: $foreground-muted; text-style: bold; }}
    & > .row--cursor {{ background: $primary-muted; color: $foreground; }}
    & > .row--muted {{ color: $foreground-muted; }}
}}
AgentList:focus > .row--cursor {{ text-style: bold; }}
"""
    COMPONENT_CLASSES: ClassVar = {*CLASSES, "row--head", "row--cursor", "row--muted"}
    BINDINGS: ClassVar = [
        Binding("up,k", "move(-1)", "Up", show=False, id="list.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="list.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="list.page-up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="list.page-down"),
        Binding("home,g", "edge(0)", "First", show=False, id="list.first"),
        Binding("end,G", "edge(-1)", "Last", show=False, id="list.last"),
        Binding("enter", "open", "Open", id="list.open"),
        Binding("space", "mark", "Mark", id="list.mark"),
        Binding("asterisk", "mark_all", "Mark all shown", show=False, id="list.mark-all"),
    ]

    class Opened(Message):
        """An agent is to be looked at."""

        def __init__(self, ticket: str) -> None:
            super().__init__()
            self.ticket = ticket

    class Marked(Message):
        """Other agents are marked than before."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: frozenset[str] = frozenset()
        self._agents: Sequence[Agent] = ()
        self._rows: list[Row] = []
        self._cursor, self._held = 0, False
        """Where the cursor is; before it was moved, it is at the top, whoever comes there."""
        self._now = 0.0
        self._signs: tuple[str, ...] = ()

    @property
    def current(self) -> str | None:
        """The ticket under the cursor."""
        return self._agents[self._cursor].ticket if self._agents else None

    @property
    def chosen(self) -> tuple[str, ...]:
        """The marked tickets, else the one under the cursor."""
        current = self.current
        return tuple(sorted(self.marks)) or ((current,) if current else ())

    def show(self, agents: Sequence[Agent], now: float) -> None:
        """Show these agents in this order. Painted is what looks different, of what is seen."""
        current = self.current
        counted = len(agents) != len(self._agents)
        self._agents, self._now = agents, now
        places = {agent.ticket: place for place, agent in enumerate(agents)}
        at = places.get(current or "", self._cursor) if self._held else 0
        self._cursor = min(at, max(0, len(agents) - 1))
        if counted:
            self.virtual_size = Size(0, len(agents) + 1)
        self._settle()

    def point(self, ticket: str) -> None:
        """Put the cursor on a ticket, where it is shown."""
        for place, agent in enumerate(self._agents):
            if agent.ticket == ticket:
                self._go(place)

    def _settle(self) -> None:
        """Make the rows that are seen anew, and paint those that have changed."""
        first = self._first()
        seen = self._agents[first : first + max(0, self.size.height - 1)]
        rows = [self._row(place + first, agent) for place, agent in enumerate(seen)]
        old, self._rows = self._rows, rows
        width = self.size.width
        changed = [y for y in range(max(len(old), len(rows))) if old[y : y + 1] != rows[y : y + 1]]
        if changed:
            self.refresh(*(Region(0, y + 1, width, 1) for y in changed))

    def _first(self) -> int:
        """The first place that is seen; what is scrolled are the rows below the head."""
        return max(0, min(int(self.scroll_offset.y), len(self._agents) - max(1, self.size.height - 1)))

    def _widths(self) -> tuple[int, int]:
        """Cells for the ticket and for what is being done."""
        width = self.size.width
        if width < _NARROW:
            return max(_TICKET[0], width - 15), 0
        ticket = max(_TICKET[0], min(_TICKET[1], width // 4))
        return ticket, width - ticket - (39 + 9 * (width >= _WIDE))

    def _row(self, place: int, agent: Agent) -> Row:
        now, look = self._now, f"sign--{style(agent, self._now)}"
        ticket, rest = self._widths()
        since = short_span(now - agent.since) if agent.since else ""
        over = agent.state != "queued" and agent.ended > 0
        if over and agent.began:
            since = short_span(agent.ended - agent.began)
        mark = "▸" if agent.ticket in self.marks else " "
        cursor = "row--cursor" if place == self._cursor else ""
        head = ((mark, ""), (f"{sign(agent, now)} ", look), (f"{fitted(agent.ticket, ticket)} ", ""))
        if not rest:
            return (*head, (fitted(agent.state, 11), look), ("", cursor))
        heard = "" if over or agent.state == "queued" else short_span(now - agent.heard)
        cost = f"{agent.cost_usd:.2f}" if agent.cost_usd else ""
        nth = str(agent.iteration or "")
        return (
            *head,
            (fitted(agent.state, 13), look),
            (f"{nth:>3} {since:>5} ", ""),
            (f"{heard:>5} {cost:>6} {self._verdict(agent)}", "row--muted"),
            (fitted(doing(agent, now), rest), ""),
            ("", cursor),
        )

    def _verdict(self, agent: Agent) -> str:
        """The last verdict, where it says more than the state does."""
        if self.size.width < _WIDE:
            return ""
        return fitted(agent.verdict if agent.verdict != agent.state else "", 9)

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        if y == 0:
            return Strip([Segment(fitted(self._head(), width), base + self._look("row--head"))], width)
        if y > len(self._rows):
            return Strip([Segment(" " * width, base)], width)
        row = self._rows[y - 1]
        under = base + self._look(row[-1][1]) if row[-1][1] else base
        # Under the cursor the sign tells, not the colour: not every colour can be read on its ground.
        looks = {name: under + self._look(name) if name and under is base else under for _, name in row[:-1]}
        segments = [Segment(text, looks[name]) for text, name in row[:-1]]
        return Strip(segments).adjust_cell_length(width, under)

    def _look(self, name: str) -> Style:
        return self.get_component_rich_style(name, partial=True)

    def _head(self) -> str:
        ticket, rest = self._widths()
        if not rest:
            return f"   {'ticket':<{ticket}} state"
        verdict = "verdict  " if self.size.width >= _WIDE else ""
        columns = f"{'state':<13}{'it':>3} {'time':>5} {'heard':>5} {'USD':>6} {verdict}doing"
        return f"   {'ticket':<{ticket}} {columns}"

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        self._settle()

    def on_resize(self) -> None:
        self._rows = []
        self._settle()
        self.refresh()
        self._follow()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.refresh()

    def _go(self, place: int) -> None:
        self._cursor, self._held = max(0, min(place, len(self._agents) - 1)), True
        self._follow()
        self._settle()

    def _follow(self) -> None:
        """Scroll so that the cursor is seen."""
        rows, first = max(1, self.size.height - 1), self._first()
        if self._cursor < first:
            self.scroll_to(y=self._cursor, animate=False, force=True)
        elif self._cursor >= first + rows:
            self.scroll_to(y=self._cursor - rows + 1, animate=False, force=True)

    def action_move(self, by: int) -> None:
        self._go(self._cursor + by)

    def action_page(self, by: int) -> None:
        self._go(self._cursor + by * max(1, self.size.height - 2))

    def action_edge(self, end: int) -> None:
        self._go(0 if end == 0 else len(self._agents) - 1)

    def action_open(self) -> None:
        if (ticket := self.current) is not None:
            self.post_message(self.Opened(ticket))

    def action_mark(self) -> None:
        if (ticket := self.current) is not None:
            self.mark(self.marks ^ {ticket})
            self._go(self._cursor + 1)

    def action_mark_all(self) -> None:
        """All that are shown; where they are marked already, none."""
        shown = frozenset(agent.ticket for agent in self._agents)
        self.mark(frozenset() if self.marks >= shown else self.marks | shown)

    def mark(self, tickets: frozenset[str]) -> None:
        """Mark these and no others."""
        self.marks = tickets
        self._settle()
        self.post_message(self.Marked())

    def on_click(self, event: events.Click) -> None:
        place = self._first() + event.y - 1
        if event.y > 0 and place < len(self._agents):
            again = place == self._cursor
            self._go(place)
            if again:
                self.action_open()
