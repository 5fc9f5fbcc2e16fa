"""What a live display knows of a run: the fleet as the screen folds it, and when the run began. Pure: no clock, no
terminal.

Events come from our own engine but may be of a later version, so nothing here trusts their data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.events import Event
from tasks.states import FINAL_STATES, WORKING_STATES, is_final
from tui.feed import Agent
from tui.fleet import Fleet, doing, number, text_of


@dataclass(frozen=True, slots=True)
class Board:
    """All agents of a run. `fold` gives the next board; a board never changes."""

    run: str = ""
    began: float = 0.0
    expected: int = 0
    fleet: Fleet = field(default_factory=Fleet)
    """Without those that are queued and were not heard of yet."""

    def fold(self, event: Event) -> Board:
        """The board after `event`."""
        board = self
        if event.kind == "run.started":
            board = replace(board, run=event.run, began=event.at, expected=_count(event.data.get("tickets")))
        if event.kind == "run.resumed":
            board = replace(board, run=event.run, began=event.at, **_known(event))
        fleet = board.fleet
        if event.ticket is not None and event.ticket not in fleet.agents:
            new = Agent(event.ticket, since=event.at)
            fleet = replace(fleet, agents={**fleet.agents, event.ticket: new})
        return replace(board, fleet=fleet.after([event], told=_told))

    @property
    def agents(self) -> Mapping[str, Agent]:
        return self.fleet.agents

    @property
    def total(self) -> int:
        return max(self.expected, len(self.agents))

    def totals(self) -> dict[str, int]:
        """Agents by state, working states first, in the order of the loop; states that nobody is in are left out."""
        counts = Counter(agent.state for agent in self.agents.values())
        counts["queued"] += self.total - len(self.agents)
        return {state: counts[state] for state in (*WORKING_STATES, *FINAL_STATES) if counts[state]}

    def working(self) -> tuple[Agent, ...]:
        """The agents that have begun and not ended."""
        return tuple(one for one in self.agents.values() if one.state != "queued" and not is_final(one.state))

    def moving(self, limit: int) -> tuple[Agent, ...]:
        """At most `limit` working agents: those heard of last, in a steady order."""
        latest = sorted(self.working(), key=lambda agent: agent.heard, reverse=True)[: max(0, limit)]
        return tuple(sorted(latest, key=lambda agent: agent.ticket))


def _known(event: Event) -> dict[str, Any]:
    """Where the tickets of a run stand that goes on."""
    tickets = event.data.get("tickets")
    states = {str(name): str(state) for name, state in tickets.items()} if isinstance(tickets, dict) else {}
    begun = {name: Agent(name, state=state, since=event.at) for name, state in states.items() if state != "queued"}
    return {"expected": len(states), "fleet": Fleet(begun)}


def _told(event: Event) -> str | None:
    """What an agent does, in the little room of a line: what it waited for, or tries again, is told by the log."""
    return None if event.kind in ("agent.waited", "agent.fault") else doing(event)


def _count(value: Any) -> int:
    """A number, or how many there are."""
    if isinstance(value, list | tuple | dict):
        return len(value)
    return int(number(value))


def log_line(event: Event) -> str | None:
    """The event as one line of a plain log; None for what is too small to be told."""
    data, who = event.data, f"{event.ticket}: " if event.ticket else ""
    reason = f": {text_of(data['reason'])}" if data.get("reason") else ""
    match event.kind:
        case "run.started":
            return f"run {event.run} began, {_count(data.get('tickets'))} tickets"
        case "run.interrupted":
            return f"run {event.run} was interrupted"
        case "run.resumed":
            return f"run {event.run} goes on"
        case "fleet.held":
            return f"everything waits for the {text_of(data.get('by'))}{reason}"
        case "fleet.free" if data.get("by") == "tickets":
            return f"something can be done again after {number(data.get('seconds')):.1f} s"
        case "fleet.free":
            return f"the {text_of(data.get('by'))} is well again after {number(data.get('seconds')):.1f} s"
        case "agent.fault":
            return f"{who}a fault of the environment, to be tried again{reason}"
        case "agent.begun_anew":
            return f"{who}begun anew{reason}"
        case "agent.nudged":
            return f"{who}nudged{reason}"
        case "sandbox.gone":
            return f"{who}its sandbox is gone and forked anew"
        case "agent.state":
            iteration = _count(data.get("iterations"))
            nth = f" (iteration {iteration})" if iteration and data.get("state") == "generating" else ""
            return f"{who}{text_of(data.get('state'))}{nth}{reason}"
        case "static.finished" if data.get("passed") is False:
            return f"{who}a static check fails"
        case "verdict":
            return f"{who}verdict {text_of(data.get('conclusion'))}{reason}"
        case _:
            return None
