"""One agent: its loop, its conversation, its change, its proof, its logs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.css.query import NoMatches
from textual.widgets import Footer, OptionList, Static, Tab, Tabs
from textual.worker import Worker

from tasks.errors import SpurlineError
from tasks.text import short_span
from tui.evidence import sandbox
from tui.feed import PAGES, Agent, Detail
from tui.fleet_screen import ACTIONS, Choosing, drawn
from tui.hops_page import HopsPage
from tui.outside import WAYS
from tui.pages import page
from tui.reading import Reading
from tui.signs import doing, sign
from tui.texts import wrong
from tui.view import View

_GROWING: Final = ("conversation", "logs")
_EVERY_S: Final = 1.5
"""How often a live agent is read anew: its transcript and its change are files and commits, not events."""


class AgentScreen(Choosing):
    """Pages about one ticket."""

    HELP = """\
# One agent

Pages by number. What it says and does comes by itself; at the end of a page, it follows.
"""
    DEFAULT_CSS = """
AgentScreen {
    & > #who { height: 1; padding: 0 1; background: $surface; text-style: bold; }
    & > #who { text-wrap: nowrap; text-overflow: ellipsis; }
    & > Tabs { height: 2; }
    &.-short > Tabs, &.-short > Footer { display: none; }
}
"""
    BINDINGS: ClassVar = [
        Binding("escape,backspace", "app.pop_screen", "Back", id="agent.back"),
        *(Binding(str(n), f"page('{name}')", name.capitalize(), show=False) for n, name in enumerate(PAGES, 1)),
        Binding("n", "app.neighbour(1)", "Next", id="agent.next"),
        Binding("N", "app.neighbour(-1)", "Previous", show=False, id="agent.previous"),
        *ACTIONS,
        *WAYS,
        Binding("z", "fold", "Fold", show=False, id="agent.fold"),
        Binding("j", "scroll(1)", "Down", show=False),
        Binding("k", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, ticket: str, look: Callable[[str, str], Awaitable[Detail]]) -> None:
        super().__init__()
        self.ticket = ticket
        self._look = look
        self._view: View | None = None
        self._details: dict[str, Detail] = {}
        """By page."""
        self._page = PAGES[0]
        self._read_at, self._reading, self._unfolded = 0.0, "", False
        self._read_last: set[str] = set()
        """The pages that were read since the run is over."""
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        yield Static(id="who", markup=False)
        yield Tabs(*(Tab(f"{n} {name}", id=name) for n, name in enumerate(PAGES, 1)))
        yield Reading()
        yield HopsPage()
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(Reading).log_.focus()

    @property
    def chosen(self) -> tuple[str, ...]:
        return (self.ticket,)

    @property
    def current(self) -> str | None:
        return self.ticket

    @property
    def agent(self) -> Agent:
        """The agent as it is in the moment shown."""
        found = self._view.fleet.agents.get(self.ticket) if self._view else None
        return found or Agent(self.ticket)

    def show(self, view: View) -> None:
        self._view = view
        agent, now = self.agent, view.now
        said = f"{sign(agent, now)} {agent.ticket}  {agent.state}"
        if agent.iteration:
            said += f"  iteration {agent.iteration}"
        if agent.since and not agent.ended:
            said += f"  since {short_span(now - agent.since)}"
        self.query_one("#who", Static).update(
            Text(f"{said}  {view.trouble or doing(agent, now)}", no_wrap=True, overflow="ellipsis")
        )
        known = self._details.get(self._page)
        live = view.player is None and not (view.run.over and (known is None or known.sandbox is None))
        due = known is None or (live and time.monotonic() - self._read_at >= _EVERY_S)
        # What was read before the run's end may lack what came last.
        due = due or (view.run.over and self._page not in self._read_last)
        if due and self._reading != self._page:
            self._reading = self._page
            self._read_last = {*self._read_last, self._page} if view.run.over else set()
            self._reader: Worker[None] = self.run_worker(partial(self._read, self._page), group="read", exclusive=True)

    async def _read(self, page: str) -> None:
        try:
            self._details[page] = await self._look(self.ticket, page)
        except SpurlineError as error:
            # What is known is better than nothing; the line above says what is wrong.
            self._details.setdefault(page, self._missing(page, error))
        # A boundary: what is damaged must not end what is shown of the rest.
        except Exception as error:
            self._details[page] = self._missing(page, error)
        finally:
            self._reading, self._read_at = "", time.monotonic()
        # Who left the page in the meantime needs nothing drawn.
        with suppress(NoMatches):
            self._draw()

    def on_tabs_tab_activated(self, event: Tabs.TabActivated) -> None:
        self._page = event.tab.id or PAGES[0]
        self._draw(top=True)
        if self._view is not None:
            drawn(self, self._view)

    def action_fold(self) -> None:
        """Show all of what is long, or its beginning."""
        self._unfolded = not self._unfolded
        self._draw()

    def action_page(self, name: str) -> None:
        self.query_one(Tabs).active = name

    def action_scroll(self, by: int) -> None:
        rows = self.query_one(OptionList)
        if rows.has_focus:
            rows.action_cursor_down() if by > 0 else rows.action_cursor_up()
        else:
            self.query_one(Reading).log_.scroll_relative(y=by, animate=False)

    def _missing(self, page: str, error: Exception) -> Detail:
        return Detail(self.ticket, (), (), missing={page: wrong(error)})

    def trouble(self, why: str) -> None:
        """Say why the agent cannot be shown as it is."""
        self.query_one("#who", Static).update(Text(f"{self.ticket}  {why}", no_wrap=True, overflow="ellipsis"))

    def _draw(self, *, top: bool = False) -> None:
        """Write the page; what cannot be drawn becomes a line that says so."""
        try:
            self._write(self._details.get(self._page), top=top)
        except NoMatches:
            raise
        # A boundary: a document that was read may still hold what nobody expects.
        except Exception as error:
            self._write(self._missing(self._page, error), top=top)

    def _write(self, detail: Detail | None, *, top: bool) -> None:
        """Write the page, where it says something else than before; who reads in its middle stays there."""
        view = self._view
        if detail is None or view is None:
            self._drawn = None
            self._bring(Reading)
            self.query_one(Reading).show([Text("reading …", "dim")], top=True)
            return
        if view.player is not None:
            detail = _until(detail, view.now)
        ticks = detail.sandbox is not None or (self._page == "timeline" and not self.agent.ended)
        now = int(view.now) if ticks else 0
        dark = self.app.current_theme.dark
        if not top and (self._page, detail, now, dark, self._unfolded) == self._drawn:
            return
        top = top or self._drawn is None
        self._drawn = (self._page, detail, now, dark, self._unfolded)
        if self._page == "hops" and not detail.missing:
            self._bring(HopsPage)
            self.query_one(HopsPage).show(detail.verdict)
            return
        self._bring(Reading)
        pieces = page(self._page, detail, self.agent, view.now, dark=dark, unfolded=self._unfolded)
        alive = detail.sandbox is not None or not self.agent.ended
        box = detail.sandbox if self._page == "logs" else None
        head = sandbox(box, view.now) if box else None
        self.query_one(Reading).show(pieces, head, follows=self._page in _GROWING and alive, top=top)

    def _bring(self, kind: type[HopsPage | Reading]) -> None:
        """Show the one that draws the page, and give it the keys."""
        reading, hops = self.query_one(Reading), self.query_one(HopsPage)
        reading.display, hops.display = kind is Reading, kind is HopsPage
        rows = self.query_one(OptionList)
        wanted = reading.log_ if kind is Reading else rows
        if self.focused in (None, reading.log_, rows) and self.focused is not wanted:
            wanted.focus()


def _until(detail: Detail, moment: float) -> Detail:
    """What was known of a ticket in an earlier moment. Its change and its proof are those of its end."""
    events = tuple(event for event in detail.events if event.at <= moment)
    return replace(detail, events=events, said=tuple(one for one in detail.said if one.at <= moment))
