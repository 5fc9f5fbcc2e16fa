"""The screen: looks at a run four times a second, draws what has changed, and does what it is told.

It holds nothing of the run's: it may end, or be killed, at any moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar, Final, cast

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Input

from tasks.errors import SpurlineError
from tasks.text import one_line
from tui.acting import Verb, command, concerned, limit_command, named
from tui.agent_screen import AgentScreen
from tui.agents import AgentList
from tui.dialogs import Confirm, Limits
from tui.feed import Feed, Run
from tui.fleet import Fleet, fleet_of, unbegun
from tui.fleet_screen import Choosing, FleetScreen
from tui.replay import Player, Story
from tui.scrubber import Scrubber
from tui.view import View

_PERIOD_S: Final = 0.25


class SpurlineApp(App[None]):
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

    def __init__(self, feed: Feed, *, at: float | None = None) -> None:
        """`at`: begin with a replay that stands at this moment, in seconds since the epoch."""
        super().__init__()
        self._feed, self._at = feed, at
        self._fleet = Fleet()
        self._view: View | None = None
        self._player: Player | None = None
        self._fleet_screen = FleetScreen()
        self._asking = asyncio.Lock()
        """One question to the feed at a time: it goes on from where the last answer ended."""

    @property
    def view(self) -> View | None:
        """What is shown; None before the first look."""
        return self._view

    def get_default_screen(self) -> Screen[None]:
        return self._fleet_screen

    def on_mount(self) -> None:
        self.run_worker(self._watch(), name="watch")

    async def _watch(self) -> None:
        while True:
            await self.look()
            if self._at is not None and self._view is not None:
                at, self._at = self._at, None
                await self._begin_replay(at)
            await asyncio.sleep(_PERIOD_S)

    async def look(self) -> None:
        """One look at the run; what it shows is as new as the store tells."""
        view, trouble = self._view, ""
        try:
            async with self._asking:
                run = await self._ask(first=view is None)
        except SpurlineError as error:
            if view is None:
                with suppress(NoMatches):
                    self._fleet_screen.trouble(error.message)
                return
            run, trouble = view.run, f"not up to date: {one_line(error.message)}"
        if self._player is not None:
            self._player.advance(_PERIOD_S)
        self._view = View(run, self._fleet, time.time(), None, trouble)
        self._draw()

    async def _ask(self, *, first: bool) -> Run:
        """Bring the fleet up to date; the run as it is."""
        if not first:
            news = await self._feed.news()
            self._fleet = self._fleet.after(news.events)
            if not news.stale:
                return news.run
        snapshot = await self._feed.snapshot()
        self._fleet = fleet_of(snapshot)
        return snapshot.run

    def _draw(self) -> None:
        view = self._view
        if view is None:
            return
        if (player := self._player) is not None:
            then = player.moment < player.story.ended
            run = replace(view.run, state="running", worked_on=True, wish="", ended=0.0) if then else view.run
            view = View(run, player.story.at(player.moment), player.moment, player, view.trouble)
        elif view.run.over and view.run.ended:
            # The clocks of a run that is over stand still.
            view = View(view.run, view.fleet, view.run.ended, None, view.trouble)
        for screen in self.screen_stack:
            if isinstance(screen, FleetScreen | AgentScreen) and screen.is_mounted:
                # One that is just coming or going lacks some of its parts, and is drawn the next time, or never again.
                with suppress(NoMatches):
                    screen.show(view)

    def on_agent_list_opened(self, message: AgentList.Opened) -> None:
        self.push_screen(AgentScreen(message.ticket, self._feed.detail))
        self.call_after_refresh(self._draw)

    def action_neighbour(self, by: int) -> None:
        """Go to the next agent, or the one before, in the list's order."""
        if isinstance(self.screen, AgentScreen):
            rows = self._fleet_screen.query_one(AgentList)
            rows.action_move(by)
            if rows.current is not None and rows.current != self.screen.ticket:
                self.switch_screen(AgentScreen(rows.current, self._feed.detail))
                self.call_after_refresh(self._draw)

    def action_leave_page(self) -> None:
        """Leave the page, or the screen."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
        else:
            self.exit()

    def action_help(self) -> None:
        """Show, or hide, the keys of what is focused."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()

    def action_act(self, verb: Verb) -> None:
        """Do something to the chosen agents."""
        if not isinstance(self.screen, FleetScreen | AgentScreen) or self._refused():
            return
        chosen = cast(Choosing, self.screen).chosen
        agents = [self._fleet.agents[ticket] for ticket in chosen if ticket in self._fleet.agents]
        if tickets := concerned(verb, agents):
            self._act(verb, tickets)
        else:
            why = ", ".join(sorted({agent.state for agent in agents})) or "nothing is chosen"
            self.notify(f"{named(chosen)}: {why}", title=f"nothing to {verb}", severity="warning", markup=False)

    def action_act_all(self, verb: Verb) -> None:
        """Do something to the whole run."""
        self._act(verb, ())

    def _act(self, verb: Verb, tickets: tuple[str, ...]) -> None:
        view = self._view
        if view is None or self._refused():
            return
        line = command(view.run.id, verb, tickets)
        if verb != "cancel" and (verb != "retry" or len(tickets) < 2):
            self.run_worker(self._do(verb, tickets, line))
            return
        question = f"{verb.capitalize()} {named(tickets)}?"
        if verb == "cancel":
            question += " That is for good: it can only be retried."

        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(self._do(verb, tickets, line))

        self.push_screen(Confirm(question, line), answered)

    async def _do(self, verb: Verb, tickets: tuple[str, ...], line: str) -> None:
        acts = {
            "pause": self._feed.pause,
            "resume": self._feed.resume,
            "cancel": self._feed.cancel,
            "retry": self._feed.retry,
        }
        try:
            said = await acts[verb](tickets)
        except SpurlineError as error:
            self._told(error)
            return
        self.notify(f"{said}\n$ {line}", title=verb, markup=False)
        self._fleet_screen.query_one(AgentList).mark(frozenset())
        await self.look()

    def action_limits(self) -> None:
        """Change the run's limits."""
        if self._view is None or self._refused():
            return
        run = self._view.run

        def answered(wanted: Mapping[str, int] | None) -> None:
            if wanted:
                self.run_worker(self._limit(run.id, wanted))

        self.push_screen(Limits(run.id, run.limits), answered)

    async def _limit(self, run: str, wanted: Mapping[str, int]) -> None:
        try:
            said = await self._feed.limit(wanted)
        except SpurlineError as error:
            self._told(error)
            return
        self.notify(f"{said}\n$ {limit_command(run, wanted)}", title="limits", markup=False)
        await self.look()

    def _refused(self) -> bool:
        """Whether nothing can be done now, which is said."""
        if self._player is not None:
            self.notify("this is the past: t goes back to now", severity="warning", markup=False)
        return self._player is not None

    def _told(self, error: SpurlineError) -> None:
        words = f"{error.message}\n{error.hint}" if error.hint else error.message
        self.notify(words, title="not done", severity="error", markup=False)

    async def action_replay(self) -> None:
        """Play the run again, from its beginning; or go back to now."""
        if self._player is not None:
            self._player = None
            self._draw()
        else:
            await self._begin_replay(None)

    async def _begin_replay(self, at: float | None) -> None:
        try:
            events = await self._feed.story()
        except SpurlineError as error:
            self._told(error)
            return
        if (view := self._view) is not None:
            start = unbegun(view.run, self._fleet.agents.values())
            self._player = Player(await asyncio.to_thread(Story, start, events), at)
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of a replay are others' while nothing is played."""
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
        yield SystemCommand(
            "Pause the whole run", "at the next step of each agent", lambda: self.action_act_all("pause")
        )
        yield SystemCommand("Let the whole run go on", "take a pause back", lambda: self.action_act_all("resume"))
        yield SystemCommand("Cancel the whole run", "for good; it asks first", lambda: self.action_act_all("cancel"))
        yield SystemCommand("Retry all that was not verified", "each begins anew", lambda: self.action_act_all("retry"))
        yield SystemCommand("Limits", "change how much may happen at once", self.action_limits)
        yield SystemCommand("Replay", "play the run again, or go back to now", self.action_replay)
