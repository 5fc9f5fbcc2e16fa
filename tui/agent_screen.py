"""One agent: its loop, its conversation, its change, its proof, its logs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar, Final

from rich.console import RenderableType
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Footer, OptionList, RichLog, Static, Tab, Tabs

from tasks.errors import SpurlineError
from tui.feed import PAGES, Agent, Detail
from tui.fleet_screen import ACTIONS
from tui.hops_page import HopsPage
from tui.outside import WAYS
from tui.pages import page
from tui.signs import doing, short, sign
from tui.view import View

_GROWING: Final = ("conversation", "logs")
_EVERY_S: Final = 1.5
"""How often a live agent is read anew: its transcript and its change are files and commits, not events."""


class AgentScreen(Screen[None]):
    """Pages about one ticket. Implements tui.fleet_screen.Choosing."""

    HELP = """\
# One agent

Pages by number. What it says and does comes by itself; at the end of a page, it follows.
"""
    DEFAULT_CSS = """
AgentScreen {
    & > #who { height: 1; padding: 0 1; background: $surface; text-style: bold; }
    & > #who { text-wrap: nowrap; text-overflow: ellipsis; }
    & > Tabs { height: 2; }
    & > RichLog { height: 1fr; padding: 0 1; background: $background; background-tint: transparent; }
    & > RichLog:focus { background-tint: transparent; }
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
        self._read_at, self._reading = 0.0, ""
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        yield Static(id="who", markup=False)
        yield Tabs(*(Tab(f"{n} {name}", id=name) for n, name in enumerate(PAGES, 1)))
        yield RichLog(wrap=True, min_width=10, auto_scroll=False)
        yield HopsPage()
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(RichLog).focus()

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
            said += f"  since {short(now - agent.since)}"
        self.query_one("#who", Static).update(
            Text(f"{said}  {view.trouble or doing(agent, now)}", no_wrap=True, overflow="ellipsis")
        )
        live = view.player is None and not view.run.over
        known = self._page in self._details
        due = not known or (live and time.monotonic() - self._read_at >= _EVERY_S)
        if due and self._reading != self._page:
            self._reading = self._page
            self.run_worker(self._read(self._page), group="read", exclusive=True)

    async def _read(self, page: str) -> None:
        try:
            self._details[page] = await self._look(self.ticket, page)
        except SpurlineError as error:
            # What is known is better than nothing; the line above says what is wrong.
            self._details.setdefault(page, Detail(self.ticket, (), (), missing={page: error.message}))
        finally:
            self._reading, self._read_at = "", time.monotonic()
        # Who left the page in the meantime needs nothing drawn.
        with suppress(NoMatches):
            self._draw()

    def on_tabs_tab_activated(self, event: Tabs.TabActivated) -> None:
        self._page = event.tab.id or PAGES[0]
        self._draw(top=True)
        if self._view is not None:
            self.show(self._view)

    def on_resize(self) -> None:
        self._drawn = None
        self.call_after_refresh(self._draw)

    def action_page(self, name: str) -> None:
        self.query_one(Tabs).active = name

    def action_scroll(self, by: int) -> None:
        rows = self.query_one(OptionList)
        if rows.has_focus:
            rows.action_cursor_down() if by > 0 else rows.action_cursor_up()
        else:
            self.query_one(RichLog).scroll_relative(y=by, animate=False)

    def _draw(self, *, top: bool = False) -> None:
        """Write the page, where it says something else than before; who reads in its middle stays there."""
        detail, view = self._details.get(self._page), self._view
        if detail is None or view is None:
            self._drawn = None
            self._write([Text("reading …", "dim")], top=True)
            return
        if view.player is not None:
            detail = _until(detail, view.now)
        now = int(view.now) if self._page == "timeline" and not self.agent.ended else 0
        dark = self.app.current_theme.dark
        if (self._page, detail, now, dark) == self._drawn:
            return
        self._drawn = (self._page, detail, now, dark)
        if self._page == "hops" and not detail.missing:
            self._bring(HopsPage)
            self.query_one(HopsPage).show(detail.verdict)
            return
        self._write(page(self._page, detail, self.agent, view.now, dark=dark), top=top)

    def _bring(self, kind: type[HopsPage | RichLog]) -> None:
        """Show the one that draws the page, and give it the keys."""
        log, hops = self.query_one(RichLog), self.query_one(HopsPage)
        log.display, hops.display = kind is RichLog, kind is HopsPage
        wanted = log if kind is RichLog else self.query_one(OptionList)
        if self.focused in (None, log, self.query_one(OptionList)) and self.focused is not wanted:
            wanted.focus()

    def _write(self, pieces: Iterable[RenderableType], *, top: bool) -> None:
        self._bring(RichLog)
        log = self.query_one(RichLog)
        at_end = log.scroll_offset.y >= log.max_scroll_y
        follows = self._page in _GROWING and (at_end or top) and not self.agent.ended
        place = 0 if top else log.scroll_offset.y
        log.clear()
        for piece in pieces:
            log.write(piece, expand=True, shrink=True, scroll_end=False)
        if follows:
            log.scroll_end(animate=False)
        else:
            log.scroll_to(y=place, animate=False)


def _until(detail: Detail, moment: float) -> Detail:
    """What was known of a ticket in an earlier moment. Its change and its proof are those of its end."""
    events = tuple(event for event in detail.events if event.at <= moment)
    return replace(detail, events=events, said=tuple(one for one in detail.said if one.at <= moment))
