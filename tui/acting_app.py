"""The part of the screen that does something to a run: it asks where it must, acts through the feed, and says what was
done and which command does the same."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import cast

from textual.app import App, SystemCommand
from textual.screen import Screen

from tasks.errors import SpurlineError
from tui.acting import (
    WARNINGS,
    WRITTEN,
    Done,
    Verb,
    Written,
    asks,
    command,
    concerned,
    keep_command,
    limit_command,
    named,
    time_of,
    written_command,
)
from tui.feed import LIMITS, RUN_BUDGETS, TICKET_BUDGETS, Agent, Feed
from tui.texts import wrong
from tui.view import View


class ActingApp(App[None]):
    """What is shown, and which agents are chosen, the rest of the screen tells. What asks is imported when it first
    does: the screen is to stand before."""

    feed: Feed
    """There as soon as anything is shown."""

    @property
    def view(self) -> View | None:
        """What is shown; None before the first look."""
        raise NotImplementedError

    @property
    def chosen(self) -> tuple[Agent, ...]:
        """The agents that an action is about; none where the screen in front shows none."""
        raise NotImplementedError

    @property
    def replayed(self) -> bool:
        """Whether the past is shown, in which nothing can be done."""
        raise NotImplementedError

    async def look(self) -> None:
        """One look at the run; what it shows is as new as the store tells."""
        raise NotImplementedError

    def unmark(self) -> None:
        """No agent is marked any more."""
        raise NotImplementedError

    def action_act(self, verb: Verb) -> None:
        """Do something to the chosen agents."""
        chosen = self.chosen
        if not chosen or self.refused():
            return
        if tickets := concerned(verb, chosen):
            self._act(verb, tickets)
        else:
            why = ", ".join(sorted({agent.state for agent in chosen}))
            who = named([agent.ticket for agent in chosen])
            self.notify(f"{who}: {why}", title=f"nothing to {verb}", severity="warning", markup=False)

    def action_act_all(self, verb: Done) -> None:
        """Do something to the whole run."""
        if self.view is not None and not concerned(verb, self.view.fleet.agents.values()):
            self.notify("there is nobody left for it", title=f"nothing to {verb}", severity="warning", markup=False)
        else:
            self._act(verb, ())

    def _act(self, verb: Verb, tickets: tuple[str, ...]) -> None:
        view = self.view
        if view is None or self.refused():
            return
        if verb in WRITTEN:
            self._write(view, verb, tickets)
        else:
            self._do(view, cast(Done, verb), tickets)

    def _do(self, view: View, verb: Done, tickets: tuple[str, ...]) -> None:
        acts = {
            "pause": self.feed.pause,
            "resume": self.feed.resume,
            "cancel": self.feed.cancel,
            "retry": self.feed.retry,
        }
        line = command(view.run, verb, tickets)
        if not asks(verb, tickets):
            self.run_worker(self.done(verb, acts[verb](tickets), line))
            return
        from tui.dialogs import Confirm

        question = f"{verb.capitalize()} {named(tickets)}? {WARNINGS[verb]}"

        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(self.done(verb, acts[verb](tickets), line))

        self.push_screen(Confirm(question, line), answered)

    def _write(self, view: View, verb: Written, tickets: tuple[str, ...]) -> None:
        from tui.writing import Writing

        acts = {"note": self.feed.note, "answer": self.feed.answer, "carry on": self.feed.carry_on}

        def written(text: str | None) -> None:
            if text is not None:
                line = written_command(view.run, verb, tickets, text)
                self.run_worker(self.done(verb, acts[verb](tickets, text), line))

        self.push_screen(Writing(view.run, verb, [view.fleet.agents[ticket] for ticket in tickets]), written)

    def action_limits(self) -> None:
        """Change how much of the run may happen at once."""
        self._limit("How much of the run may happen at once", LIMITS)

    def action_budgets(self) -> None:
        """Change the budgets of the run, and those that its tickets have in common."""
        self._limit("Budgets of the run and of its tickets", (*RUN_BUDGETS, *TICKET_BUDGETS))

    def action_ticket_budgets(self) -> None:
        """Change the budgets of the chosen agents alone."""
        if agents := [agent for agent in self.chosen if agent.state != "verified"]:
            head = f"Budgets of {named([agent.ticket for agent in agents])} alone"
            self._limit(head, TICKET_BUDGETS, agents)

    def _limit(self, head: str, names: Sequence[str], agents: Sequence[Agent] = ()) -> None:
        if self.view is None or self.refused():
            return
        from tui.dialogs import Limits

        run, tickets = self.view.run, [agent.ticket for agent in agents]
        known = {**run.limits, **run.budgets, **(agents[0].budgets if len(agents) == 1 else {})}

        def command(wanted: Mapping[str, float]) -> str:
            return limit_command(run, wanted, tickets)

        def answered(wanted: Mapping[str, float] | None) -> None:
            if wanted:
                act = self.feed.limit(wanted, tickets)
                self.run_worker(self.done("limits", act, command(wanted), chosen=bool(tickets)))

        self.push_screen(Limits(head, names, known, command), answered)

    def action_keep(self) -> None:
        """Keep the sandboxes of the chosen agents, also when they end."""
        tickets = [agent.ticket for agent in self.chosen]
        if not tickets or self.view is None or self.refused():
            return
        from tui.dialogs import Keep

        run = self.view.run

        def answered(time: str | None) -> None:
            if time is not None and (for_s := time_of(time)) is not None:
                act = self.feed.keep(tickets, for_s)
                self.run_worker(self.done("keep", act, keep_command(run, tickets, time)))

        self.push_screen(Keep(run, tickets), answered)

    async def done(self, title: str, act: Awaitable[str], line: str, *, chosen: bool = True) -> None:
        """Do it, and say what was done; or why it was not. Agents that were `chosen` for it are marked no more."""
        try:
            said = await act
        # A boundary: what cannot be done is said, whatever is damaged.
        except Exception as error:
            self.told(error)
            return
        self.notify(f"{said}\n$ {line}", title=title, markup=False)
        if chosen:
            self.unmark()
        await self.look()

    def refused(self) -> bool:
        """Whether nothing can be done now, which is said."""
        if self.replayed:
            self.notify("this is the past: t goes back to now", severity="warning", markup=False)
        return self.replayed

    def told(self, error: Exception) -> None:
        """Say why something was not done."""
        hint = error.hint if isinstance(error, SpurlineError) else None
        words = "\n".join(filter(None, (error.message if isinstance(error, SpurlineError) else wrong(error), hint)))
        self.notify(words, title="not done", severity="error", markup=False)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        yield from super().get_system_commands(screen)
        yield SystemCommand("Note", "tell the chosen agents something", lambda: self.action_act("note"))
        yield SystemCommand("Answer", "the question of the chosen agents", lambda: self.action_act("answer"))
        yield SystemCommand("Carry on", "from where the chosen agents ended", lambda: self.action_act("carry on"))
        yield SystemCommand(
            "Pause the whole run", "at the next step of each agent", lambda: self.action_act_all("pause")
        )
        yield SystemCommand("Let the whole run go on", "take a pause back", lambda: self.action_act_all("resume"))
        yield SystemCommand("Cancel the whole run", "for good; it asks first", lambda: self.action_act_all("cancel"))
        yield SystemCommand(
            "Retry all that was not verified", "each begins anew; it asks first", lambda: self.action_act_all("retry")
        )
        yield SystemCommand("Limits", "change how much may happen at once", self.action_limits)
        yield SystemCommand("Budgets of the run", "and those of each ticket", self.action_budgets)
        yield SystemCommand("Budgets", "of the chosen agents alone", self.action_ticket_budgets)
        yield SystemCommand("Keep", "the sandboxes of the chosen agents", self.action_keep)
