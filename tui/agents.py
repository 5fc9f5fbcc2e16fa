"""The list of agents: one row each, below the head of its group, drawn only where it is seen, painted only where it has
changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.columns import Columns, Row
from tui.feed import Agent
from tui.grouping import Group
from tui.signs import CLASSES, COLOURS, fitted


class AgentList(ScrollView, can_focus=True):
    """Agents by row, with a cursor that stays on its ticket wherever it goes, and marks. Heads of groups are rows too:
    an action there is about all of the group."""

    HELP = """\
# Agents

One row each: mark, sign, ticket, state, iteration, time in the state, time since it was heard of, money, last verdict,
and what it does right now. A capital sign is stalled: at work, and silent for two minutes. Actions concern the marked
agents, or the one under the cursor; on the head of a group, all of that group.
"""
    DEFAULT_CSS = f"""
AgentList {{
    height: 1fr;
    background: $background;
    scrollbar-size-vertical: 1;{COLOURS}
    & > .row--head {{ color: $foreground-muted; text-style: bold; }}
    & > .row--cursor {{ background: $primary-muted; color: $foreground; }}
    & > .row--group {{ text-style: bold; }}
    & > .row--muted {{ color: $foreground-muted; }}
}}
AgentList:focus > .row--cursor {{ text-style: bold; }}
"""
    COMPONENT_CLASSES: ClassVar = {*CLASSES, "row--head", "row--cursor", "row--group", "row--muted"}
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
        Binding("z", "fold", "Fold the group", show=False, id="list.fold"),
        Binding("Z", "fold_all", "Fold all groups", show=False, id="list.fold-all"),
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
        self._groups: Sequence[Group] = ()
        self._folded: frozenset[str] = frozenset()
        """Groups of which the head alone is shown, by name."""
        self._items: Sequence[Agent | Group] = ()
        """What has a row: agents, and heads of groups."""
        self._rows: list[Row] = []
        self._cursor, self._held = 0, False
        """Where the cursor is; before it was moved, it is on the first agent, whoever comes there."""
        self._now = 0.0

    @property
    def shown(self) -> tuple[Agent, ...]:
        """The agents that have a row, in their order."""
        return tuple(item for item in self._items if isinstance(item, Agent))

    @property
    def _item(self) -> Agent | Group | None:
        return self._items[self._cursor] if self._items else None

    @property
    def current(self) -> str | None:
        """The ticket under the cursor; none on the head of a group."""
        item = self._item
        return item.ticket if isinstance(item, Agent) else None

    @property
    def chosen(self) -> tuple[str, ...]:
        """The marked tickets, else the one under the cursor, or all of the group whose head that is on."""
        return tuple(sorted(self.marks)) or tuple(sorted(self._under()))

    def _under(self) -> frozenset[str]:
        match self._item:
            case Group(agents=agents):
                return frozenset(agent.ticket for agent in agents)
            case Agent(ticket=ticket):
                return frozenset((ticket,))
            case _:
                return frozenset()

    def show(self, groups: Sequence[Group], now: float) -> None:
        """Show these agents, by group, in this order. Painted is what looks different, of what is seen."""
        self._groups, self._now = groups, now
        self._arrange()

    def _arrange(self) -> None:
        """Make a row of everything that is not folded away; the cursor stays with what it is on."""
        current, counted = self._item, len(self._items)
        items: list[Agent | Group] = []
        for group in self._groups:
            if group.name:
                items.append(group)
            if group.name not in self._folded:
                items += group.agents
        self._items = items
        top = 1 if len(items) > 1 and isinstance(items[0], Group) and isinstance(items[1], Agent) else 0
        at = self._place(current) if self._held else top
        self._cursor = min(self._cursor if at is None else at, max(0, len(items) - 1))
        if counted != len(items):
            self.virtual_size = Size(0, len(items) + 1)
        self._settle()

    def _place(self, wanted: Agent | Group | None) -> int | None:
        """Where the same agent is by now, or the same group; None where it is not shown."""
        return next((place for place, item in enumerate(self._items) if _same(item, wanted)), None)

    def point(self, ticket: str) -> None:
        """Put the cursor on a ticket, where it is shown."""
        if (place := self._place(Agent(ticket))) is not None:
            self._go(place)

    def neighbour(self, ticket: str, by: int) -> str:
        """Put the cursor on the agent after this one (`by` 1) or before it (-1), where there is one; its ticket."""
        # Others may have come under the cursor while this one was looked at.
        self.point(ticket)
        places = [place for place, item in enumerate(self._items) if isinstance(item, Agent)]
        on = [place for place in places if (place - self._cursor) * by > 0]
        if on:
            self._go(on[0] if by > 0 else on[-1])
        return self.current or ticket

    def _settle(self) -> None:
        """Make the rows that are seen anew, and paint those that have changed."""
        first = self._first()
        seen = self._items[first : first + max(0, self.size.height - 1)]
        rows = [self._row(place + first, item) for place, item in enumerate(seen)]
        old, self._rows = self._rows, rows
        width = self.size.width
        changed = [y for y in range(max(len(old), len(rows))) if old[y : y + 1] != rows[y : y + 1]]
        if changed:
            self.refresh(*(Region(0, y + 1, width, 1) for y in changed))

    def _first(self) -> int:
        """The first place that is seen; what is scrolled are the rows below the head."""
        return max(0, min(int(self.scroll_offset.y), len(self._items) - max(1, self.size.height - 1)))

    def _row(self, place: int, item: Agent | Group) -> Row:
        columns = Columns(self.size.width)
        cursor = ("", "row--cursor" if place == self._cursor else "")
        if isinstance(item, Agent):
            return (*columns.agent(item, self._now, marked=item.ticket in self.marks), cursor)
        marked = sum(agent.ticket in self.marks for agent in item.agents) if self.marks else 0
        return (*columns.group(item, folded=item.name in self._folded, marked=marked), cursor)

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        if y == 0:
            return Strip([Segment(fitted(Columns(width).head(), width), base + self._look("row--head"))], width)
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

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        self._settle()

    def on_resize(self) -> None:
        self._rows = []
        self._settle()
        self.refresh()
        self.follow()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.refresh()

    def _go(self, place: int) -> None:
        self._cursor, self._held = max(0, min(place, len(self._items) - 1)), True
        self.follow()
        self._settle()

    def follow(self) -> None:
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
        self._go(0 if end == 0 else len(self._items) - 1)

    def action_open(self) -> None:
        if (ticket := self.current) is not None:
            self.post_message(self.Opened(ticket))
        else:
            self.action_fold()

    def action_mark(self) -> None:
        """Mark the agent under the cursor, or all of the group; where they are marked already, none of them."""
        if under := self._under():
            self.mark(self.marks - under if self.marks >= under else self.marks | under)
            self._go(self._cursor + 1)

    def action_mark_all(self) -> None:
        """All that are shown; where they are marked already, none."""
        shown = frozenset(agent.ticket for agent in self.shown)
        self.mark(frozenset() if self.marks >= shown else self.marks | shown)

    def action_fold(self) -> None:
        """Show of the group under the cursor its head alone, or all of it again."""
        if (group := self._group()) is not None:
            self._fold(self._folded ^ {group.name})

    def action_fold_all(self) -> None:
        """Show the heads alone; where they are alone already, all."""
        names = frozenset(group.name for group in self._groups if group.name)
        self._fold(frozenset() if self._folded >= names else names)

    def unfold(self) -> None:
        """Show all of all groups."""
        self._fold(frozenset())

    def _fold(self, names: frozenset[str]) -> None:
        group, folded = self._group(), names
        self._folded = folded
        self._arrange()
        if group is not None and group.name in folded:
            self._go(self._place(group) or 0)

    def _group(self) -> Group | None:
        """The group that the cursor is in, if there are groups."""
        heads = [item for item in self._items[: self._cursor + 1] if isinstance(item, Group)]
        return heads[-1] if heads else None

    def mark(self, tickets: frozenset[str]) -> None:
        """Mark these and no others."""
        self.marks = tickets
        self._settle()
        self.post_message(self.Marked())

    def on_click(self, event: events.Click) -> None:
        place = self._first() + event.y - 1
        if event.y > 0 and place < len(self._items):
            again = place == self._cursor
            self._go(place)
            if again:
                self.action_open()


def _same(item: Agent | Group, other: Agent | Group | None) -> bool:
    if isinstance(item, Agent):
        return isinstance(other, Agent) and item.ticket == other.ticket
    return isinstance(other, Group) and item.name == other.name
