"""The fleet: every agent of the run in one view."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from tui.acting import named
from tui.agents import AgentList
from tui.filtering import VIEWS, matching
from tui.fleet import orders
from tui.grouping import GROUPINGS, By, grouped
from tui.head import headline, limits, totals
from tui.outside import WAYS
from tui.scrubber import Scrubber
from tui.strip import FleetStrip
from tui.texts import wrong
from tui.view import View

ACTIONS: Final = [
    Binding("p", "app.act('pause')", "Pause", id="act.pause"),
    Binding("r", "app.act('resume')", "Resume", id="act.resume"),
    Binding("x", "app.act('cancel')", "Cancel", id="act.cancel"),
    Binding("R", "app.act('retry')", "Retry", show=False, id="act.retry"),
    Binding("w", "app.act('note')", "Write a note", show=False, id="act.note"),
    Binding("a", "app.act('answer')", "Answer", show=False, id="act.answer"),
    Binding("c", "app.act('carry on')", "Carry on", show=False, id="act.carry-on"),
    Binding("b", "app.ticket_budgets", "Budgets", show=False, id="act.budgets"),
    Binding("K", "app.keep", "Keep the sandbox", show=False, id="act.keep"),
]
"""What can be done to agents, on every screen that shows some."""


class Choosing(Screen[None]):
    """A screen on which agents are chosen."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """The tickets that an action is about; none stand for no agent."""
        raise NotImplementedError

    @property
    def current(self) -> str | None:
        """The ticket that is looked at."""
        raise NotImplementedError

    def show(self, view: View) -> None:
        """Draw a moment."""
        raise NotImplementedError

    def trouble(self, why: str) -> None:
        """Say why it cannot be drawn."""
        raise NotImplementedError


def drawn(screen: Choosing, view: View) -> None:
    """Draw a moment; what cannot be drawn is said there, and ends nothing. Raises NoMatches where the screen is just
    coming or going."""
    try:
        screen.show(view)
    except NoMatches:
        raise
    # A boundary: a row may hold what nobody expects.
    except Exception as error:
        screen.trouble(wrong(error))


class FleetScreen(Choosing):
    """The strip, the list, and what limits the run."""

    DEFAULT_CSS = """
FleetScreen {
    & > .line { height: 1; padding: 0 1; background: $surface; text-wrap: nowrap; text-overflow: ellipsis; }
    & > #limits { color: $foreground-muted; }
    & > #status { display: none; color: $text-warning; }
    & > #filter { display: none; height: 1; border: none; padding: 0 1; background: $panel; }
    &.-short > #limits, &.-short > #totals, &.-short > Footer { display: none; }
}
"""
    BINDINGS: ClassVar = [
        *ACTIONS,
        *WAYS,
        Binding("slash", "filter", "Filter", id="fleet.filter"),
        Binding("f", "filters", "Filters", show=False, id="fleet.filters"),
        Binding("s", "order", "Sort", show=False, id="fleet.sort"),
        Binding("v", "group", "Group", show=False, id="fleet.group"),
        Binding("l", "app.limits", "Limits", show=False, id="act.limits"),
        Binding("B", "app.budgets", "Budgets of the run", show=False, id="act.run-budgets"),
        Binding("t", "app.replay", "Replay", id="fleet.replay"),
        *(Binding(str(n), f"view('{name}')", f"Show {name}", show=False) for n, name in enumerate(VIEWS, 1)),
        Binding("escape", "leave", "Clear filter, marks or replay", show=False, id="fleet.leave"),
        Binding("P", "app.act_all('pause')", "Pause the whole run", show=False, id="act.pause-all"),
        Binding("U", "app.act_all('resume')", "Let the whole run go on", show=False, id="act.resume-all"),
    ]

    def __init__(self, look_up: Callable[[], Awaitable[Mapping[str, Sequence[str]]]], *, by: By | None = None) -> None:
        """`look_up`: the services that each ticket may change, asked for when a filter or a group is about them; `by`:
        how they are grouped."""
        super().__init__()
        self._look_up, self._services = look_up, dict[str, Sequence[str]]()
        self._looked_up = False
        self._view: View | None = None
        self._shown, self._order, self._filter = "all", "attention", ""
        self._by = by
        self._lines: dict[str, Text] = {}

    def compose(self) -> ComposeResult:
        yield Static("reading the run …", id="head", classes="line", markup=False)
        yield Static(id="limits", classes="line", markup=False)
        yield FleetStrip()
        yield Static(id="totals", classes="line", markup=False)
        yield AgentList()
        yield Static(id="status", classes="line", markup=False)
        yield Scrubber(markup=False)
        yield Input(placeholder="words, state:failed, !word", id="filter", compact=True)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(AgentList).focus()

    @property
    def chosen(self) -> tuple[str, ...]:
        return self.query_one(AgentList).chosen

    @property
    def current(self) -> str | None:
        return self.query_one(AgentList).current

    def show(self, view: View) -> None:
        self._view = view
        fleet, run, now = view.fleet, view.run, view.now
        agents = list(fleet.agents.values())
        self._line("#head", headline(fleet, run, now, replayed=view.player is not None))
        self._line("#limits", said := limits(fleet, run, now, over=view.ended))
        self.query_one("#limits").display = bool(said)
        self._line("#totals", totals(fleet))
        self.query_one(FleetStrip).show(agents, now)
        fits, typed = VIEWS[self._shown], matching(self._filter, self._services)
        found = [agent for agent in agents if fits(agent, now) and typed(agent, now)]
        if self._by == "service" and not self._looked_up:
            self.run_worker(self._learn_services())
        found.sort(key=orders(now)[self._order])
        self.query_one(AgentList).show(grouped(found, self._by, self._services, now), now)
        self.query_one(Scrubber).show(view.player)
        self._status(len(found), len(agents), view.trouble)

    def _status(self, found: int, total: int, trouble: str) -> None:
        marks = self.query_one(AgentList).marks
        said = [
            trouble,
            f"{found} of {total} shown" if found < total else "",
            f"view: {self._shown}" if self._shown != "all" else "",
            f"filter: {self._filter}" if self._filter else "",
            f"sorted by {self._order}" if self._order != "attention" else "",
            f"grouped by {self._by}" if self._by else "",
            f"marked: {named(sorted(marks))}" if marks else "",
        ]
        text = " · ".join(one for one in said if one)
        self.query_one("#status").display = bool(text)
        self._line("#status", Text(text, no_wrap=True, overflow="ellipsis"))

    def trouble(self, why: str) -> None:
        """Say why there is nothing to show."""
        self._line("#head", Text(why, no_wrap=True, overflow="ellipsis"))

    def _line(self, which: str, text: Text) -> None:
        # What says the same is not laid out and painted anew.
        if self._lines.get(which) != text:
            self._lines[which] = text
            self.query_one(which, Static).update(text)

    def _again(self) -> None:
        if self._view is not None:
            drawn(self, self._view)

    def action_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = True
        # At once: what is typed next is meant for it.
        self.set_focus(box)

    async def action_filters(self) -> None:
        """Choose a filter by its name, or keep the one in force."""
        from tui.filters_dialog import Filters
        from tui.saved_filters import SavedFilters, filters_file

        def chosen(text: str | None) -> None:
            if text is not None:
                self.query_one("#filter", Input).value = text

        await self._learn_services()
        services = sorted({one for some in self._services.values() for one in some})
        self.app.push_screen(Filters(SavedFilters(filters_file()), self._filter, services), chosen)

    async def _learn_services(self) -> None:
        """Look them up, once; what is wrong with the tickets is said, and there are none then."""
        if self._looked_up:
            return
        self._looked_up = True
        try:
            self._services = dict(await self._look_up())
        # A boundary: the list goes on without what is damaged.
        except Exception as error:
            self.notify(wrong(error), title="services of the tickets", severity="warning", markup=False)
        self._again()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._filter = event.value.strip()
        if "service:" in self._filter:
            self.run_worker(self._learn_services())
        self._again()

    def on_input_submitted(self) -> None:
        self._close_filter()

    def _close_filter(self) -> None:
        self.query_one("#filter").display = False
        self.query_one(AgentList).focus()

    def action_leave(self) -> None:
        """Take back one thing: the filter, the marks, the view, the replay."""
        box, rows = self.query_one("#filter", Input), self.query_one(AgentList)
        if self._filter or box.display:
            box.value = ""
            self._close_filter()
        elif rows.marks:
            rows.mark(frozenset())
        elif self._shown != "all":
            self._shown = "all"
        elif self._view is not None and self._view.player is not None:
            self.app.call_next(self.app.run_action, "replay")
        self._again()

    def action_order(self) -> None:
        names = list(orders(0.0))
        self._order = names[(names.index(self._order) + 1) % len(names)]
        self._again()
        self.query_one(AgentList).follow()

    def action_group(self) -> None:
        """Group by the next thing, and at last by none."""
        ways = (None, *GROUPINGS)
        self._by = ways[(ways.index(self._by) + 1) % len(ways)]
        rows = self.query_one(AgentList)
        rows.unfold()
        self._again()
        rows.follow()

    def action_view(self, name: str) -> None:
        self._shown = name
        self._again()

    def on_agent_list_marked(self) -> None:
        self._again()
