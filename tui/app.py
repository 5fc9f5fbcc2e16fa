"""The screen: looks at a run four times a second, draws what has changed, and does what it is told.

It holds nothing of the run's: it may end, or be killed, at any moment.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar, Final

from textual.app import SystemCommand
from textual.binding import Binding
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Input

from tasks.errors import SpurlineError
from tui.acting_app import ActingApp
from tui.agents import AgentList
from tui.feed import Agent, Feed, Run
from tui.fleet import Fleet, fleet_of, unbegun
from tui.fleet_screen import Choosing, FleetScreen, drawn
from tui.grouping import By
from tui.head import ended
from tui.outside import Way, leave
from tui.replay import Player, Story
from tui.scrubber import Scrubber
from tui.texts import wrong
from tui.view import View

_PERIOD_S: Final = 0.25
_TOLD_S: Final = 20.0


class SpurlineApp(ActingApp):
    """One run, live or played again."""

    TITLE = "spurline"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (12, "-tall")]  # noqa: RUF012 - mypy reads textual's own as no ClassVar
    BINDINGS: ClassVar = [
        Binding("q", "leave_page", "Quit", show=False, id="app.quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False),
        Binding("question_mark", "help", "Help", id="app.help"),
        Binding("space", "play", "Play or stand still", show=False, priority=True),
        Binding("left", "seek(-0.02)", "Back", show=False, priority=True),
        Binding("right", "seek(0.02)", "On", show=False, priority=True),
        Binding("left_square_bracket", "speed(-1)", "Slower", show=False),
        Binding("right_square_bracket", "speed(1)", "Faster", show=False),
    ]

    def __init__(self, feed: Feed | Awaitable[Feed], *, at: float | None = None, by: By | None = None) -> None:
        """`at`: begin with a replay that stands at this moment, in seconds since the epoch; `by`: with agents in
        groups."""
        super().__init__()
        self._coming, self._at = feed, at
        self.no_feed: SpurlineError | None = None
        """Why there is none: the screen has left then."""
        self._fleet = Fleet()
        self._went_on = False
        """Whether the run was seen before its end."""
        self._view: View | None = None
        self._player: Player | None = None
        self._fleet_screen = FleetScreen(lambda: self.feed.services(), by=by)
        self._asking = asyncio.Lock()
        """One question to the feed at a time: it goes on from where the last answer ended."""
        self._stands, self.warm = asyncio.Event(), asyncio.Event()
        """Set when the first picture was drawn; when agents are shown, and all is imported that a key may want."""

    @property
    def view(self) -> View | None:
        return self._view

    @property
    def chosen(self) -> tuple[Agent, ...]:
        chosen = self.screen.chosen if isinstance(self.screen, Choosing) else ()
        return tuple(self._fleet.agents[ticket] for ticket in chosen if ticket in self._fleet.agents)

    @property
    def replayed(self) -> bool:
        return self._player is not None

    def unmark(self) -> None:
        self._fleet_screen.query_one(AgentList).mark(frozenset())

    def get_default_screen(self) -> Screen[None]:
        return self._fleet_screen

    def on_mount(self) -> None:
        # What stood on the terminal before a suspension is not what stands there after it.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        self.call_after_refresh(self._stands.set)
        self.run_worker(self._watch(), name="watch")

    async def _watch(self) -> None:
        # The store is imported in a thread; at the same time, both would take longer.
        await self._stands.wait()
        try:
            self.feed = await self._coming if isinstance(self._coming, Awaitable) else self._coming
        except SpurlineError as error:
            self.no_feed = error
            self.exit()
            return
        while True:
            await self.look()
            if not self.warm.is_set() and self._view is not None:
                # What is opened next need not be imported while its key waits.
                await asyncio.to_thread(_import_the_rest)
                self.warm.set()
            if self._at is not None and self._view is not None:
                at, self._at = self._at, None
                await self._begin_replay(at)
            await asyncio.sleep(_PERIOD_S)

    async def look(self) -> None:
        view, trouble = self._view, ""
        try:
            async with self._asking:
                run = await self._ask(first=view is None)
        # A boundary: a damaged row must not end what is shown of the rest.
        except Exception as error:
            if view is None:
                with suppress(NoMatches):
                    self._fleet_screen.trouble(wrong(error))
                return
            run, trouble = view.run, f"not up to date: {wrong(error)}"
        if self._player is not None:
            self._player.advance(_PERIOD_S)
        self._went_on = self._went_on or not run.over
        over = run.over and self._went_on
        self._view = View(run, self._fleet, time.time(), ended=over, trouble=trouble)
        self._draw()
        if over and view is not None and not view.ended:
            self.notify(ended(self._fleet, run), title="the run has ended", markup=False, timeout=_TOLD_S)

    async def _ask(self, *, first: bool) -> Run:
        """Bring the fleet up to date; the run as it is."""
        if not first:
            news = await self.feed.news()
            self._fleet = self._fleet.after(news.events)
            if not news.stale:
                return news.run
        snapshot = await self.feed.snapshot()
        self._fleet = fleet_of(snapshot)
        return snapshot.run

    def _draw(self) -> None:
        view = self._view
        if view is None:
            return
        if (player := self._player) is not None:
            then = player.moment < player.story.ended
            run = replace(view.run, state="running", worked_on=True, wish="", ended=0.0) if then else view.run
            view = View(run, player.story.at(player.moment), player.moment, player, trouble=view.trouble)
        elif view.run.over and view.run.ended:
            # The clocks of a run that is over stand still.
            view = replace(view, now=view.run.ended)
        for screen in self.screen_stack:
            if isinstance(screen, Choosing) and screen.is_mounted:
                # One that is just coming or going lacks some of its parts, and is drawn the next time, or never again.
                with suppress(NoMatches):
                    drawn(screen, view)

    def on_agent_list_opened(self, message: AgentList.Opened) -> None:
        from tui.agent_screen import AgentScreen

        self.push_screen(AgentScreen(message.ticket, self.feed.detail))
        self.call_after_refresh(self._draw)

    def action_neighbour(self, by: int) -> None:
        """Go to the next agent, or the one before, in the list's order."""
        from tui.agent_screen import AgentScreen

        if isinstance(self.screen, AgentScreen):
            ticket = self._fleet_screen.query_one(AgentList).neighbour(self.screen.ticket, by)
            if ticket != self.screen.ticket:
                self.switch_screen(AgentScreen(ticket, self.feed.detail))
                self.call_after_refresh(self._draw)

    def action_leave_page(self) -> None:
        """Leave the page, or the screen."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
        else:
            self.exit()

    def action_help(self) -> None:
        """Show, or hide, the keys of what is focused."""
        shown = self.screen.query("HelpPanel")
        self.action_hide_help_panel() if shown else self.action_show_help_panel()

    def action_outside(self, way: Way) -> None:
        """Leave the screen for something of the agent that is looked at."""
        if isinstance(self.screen, Choosing) and (ticket := self.screen.current):
            self.run_worker(leave(self, self.feed, ticket, way), name="outside")

    async def action_replay(self) -> None:
        """Play the run again, from its beginning; or go back to now."""
        if self._player is not None:
            self._player = None
            self._draw()
        else:
            await self._begin_replay(None)

    async def _begin_replay(self, at: float | None) -> None:
        if (view := self._view) is None:
            return
        try:
            events = await self.feed.story()
            start = unbegun(view.run, self._fleet.agents.values())
            self._player = Player(await asyncio.to_thread(Story, start, events), at)
        # A boundary, as when it is read.
        except Exception as error:
            self.told(error)
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of a replay are others' while nothing is played."""
        if action == "suspend_process":
            # A part of another's job is not stopped alone: that one would wait, and the terminal with it.
            return os.getpgrp() == os.getpid()
        if action in ("play", "seek", "speed"):
            typing = isinstance(self.focused, Input)
            return self._player is not None and isinstance(self.screen, FleetScreen) and not typing
        return True

    def action_play(self) -> None:
        """Play, or stand still."""
        if self._player is not None:
            self._player.toggle()
            self._draw()

    def action_seek(self, share: float) -> None:
        """Go on, or back, by a share of the whole."""
        if self._player is not None:
            self._player.playing = False
            self._player.step(share)
            self._draw()

    def action_speed(self, by: int) -> None:
        """Faster or slower."""
        if self._player is not None:
            self._player.faster(by)
            self._draw()

    def on_scrubber_sought(self, message: Scrubber.Sought) -> None:
        if (player := self._player) is not None:
            player.seek(player.story.began + message.share * (player.story.ended - player.story.began))
            self._draw()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        yield from super().get_system_commands(screen)
        yield SystemCommand("Group", "by state, by service, by reason, or not", self._fleet_screen.action_group)
        yield SystemCommand("Replay", "play the run again, or go back to now", self.action_replay)


def _import_the_rest() -> None:
    for name in ("agent_screen", "dialogs", "writing", "filters_dialog"):
        importlib.import_module(f"tui.{name}")
