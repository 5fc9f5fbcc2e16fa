"""What a live display knows of a run: a fold of its events. Pure: no clock, no terminal.

Events come from our own engine but may be of a later version, so nothing here trusts their data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tasks.events import Event
from tasks.states import FINAL_STATES, WORKING_STATES, is_final
from tasks.text import one_line

_TEXT_LIMIT: Final = 160


@dataclass(frozen=True, slots=True)
class AgentLine:
    """One agent as it is now. Texts are one plain line each."""

    ticket: str
    state: str = "queued"
    iteration: int = 0
    doing: str = ""
    reason: str = ""
    since: float = 0.0
    """When it came into its state, in seconds since the epoch."""
    moved: float = 0.0
    """When it was last heard of."""

    @property
    def working(self) -> bool:
        """Whether it has begun and not ended."""
        return self.state != "queued" and not is_final(self.state)


@dataclass(frozen=True, slots=True)
class Board:
    """All agents of a run. `fold` gives the next board; a board never changes."""

    run: str = ""
    began: float = 0.0
    expected: int = 0
    agents: Mapping[str, AgentLine] = field(default_factory=dict)
    cost_usd: float = 0.0
    held: Mapping[str, str] = field(default_factory=dict)
    """What everything waits for, and why."""

    def fold(self, event: Event) -> Board:
        """The board after `event`."""
        board = self
        if event.kind == "run.started":
            board = replace(board, run=event.run, began=event.at, expected=_count(event.data.get("tickets")))
        if event.kind == "run.resumed":
            board = replace(board, run=event.run, began=event.at, **_known(event))
        if event.kind in ("fleet.held", "fleet.free"):
            board = replace(board, held=_fold_held(board.held, event))
        if event.ticket is not None:
            line = _fold_line(board.agents.get(event.ticket, AgentLine(event.ticket, since=event.at)), event)
            board = replace(board, agents={**board.agents, event.ticket: line})
        if event.kind == "model.call":
            board = replace(board, cost_usd=board.cost_usd + _number(event.data.get("cost_usd")))
        return board

    @property
    def total(self) -> int:
        return max(self.expected, len(self.agents))

    @property
    def ended(self) -> int:
        return sum(is_final(line.state) for line in self.agents.values())

    def totals(self) -> dict[str, int]:
        """Agents by state, working states first, in the order of the loop; states that nobody is in are left out."""
        counts = Counter(line.state for line in self.agents.values())
        counts["queued"] += self.total - len(self.agents)
        return {state: counts[state] for state in (*WORKING_STATES, *FINAL_STATES) if counts[state]}

    def moving(self, limit: int) -> tuple[AgentLine, ...]:
        """At most `limit` working agents: those heard of last, in a steady order."""
        working = [line for line in self.agents.values() if line.working]
        latest = sorted(working, key=lambda line: line.moved, reverse=True)[: max(0, limit)]
        return tuple(sorted(latest, key=lambda line: line.ticket))


def _known(event: Event) -> dict[str, Any]:
    """Where the tickets of a run stand that goes on."""
    tickets = event.data.get("tickets")
    states = {str(name): str(state) for name, state in tickets.items()} if isinstance(tickets, dict) else {}
    begun = {name: AgentLine(name, state, since=event.at) for name, state in states.items() if state != "queued"}
    return {"expected": len(states), "agents": begun}


def _fold_held(held: Mapping[str, str], event: Event) -> dict[str, str]:
    by = _text(event.data.get("by"))
    rest = {name: why for name, why in held.items() if name != by}
    return {**rest, by: _text(event.data.get("reason"))} if event.kind == "fleet.held" else rest


def _fold_line(line: AgentLine, event: Event) -> AgentLine:
    data, line = event.data, replace(line, moved=event.at)
    match event.kind:
        case "agent.state":
            state = str(data.get("state", line.state))
            return replace(
                line,
                state=state,
                since=event.at if state != line.state else line.since,
                iteration=_count(data.get("iterations")) or line.iteration,
                reason=_text(data.get("reason")),
                doing="",
            )
        case "agent.activity":
            return replace(line, doing=_text(data.get("doing")))
        case "check.started":
            return replace(line, doing=f"check {_text(data.get('name'))}")
        case "fork.ready":
            return replace(line, doing=f"fork {_text(data.get('service'))} is ready")
        case "verdict":
            return replace(line, doing=f"{_text(data.get('conclusion'))}: {_text(data.get('reason'))}")
        case _:
            return line


def _text(value: Any) -> str:
    return "" if value is None else one_line(str(value), _TEXT_LIMIT)


def _count(value: Any) -> int:
    """A number, or how many there are."""
    if isinstance(value, list | tuple | dict):
        return len(value)
    return int(value) if isinstance(value, int | float) else 0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def log_line(event: Event) -> str | None:
    """The event as one line of a plain log; None for what is too small to be told."""
    data, who = event.data, f"{event.ticket}: " if event.ticket else ""
    reason = f": {_text(data['reason'])}" if data.get("reason") else ""
    match event.kind:
        case "run.started":
            return f"run {event.run} began, {_count(data.get('tickets'))} tickets"
        case "run.finished":
            return f"run {event.run} ended"
        case "run.interrupted":
            return f"run {event.run} was interrupted"
        case "run.resumed":
            return f"run {event.run} goes on"
        case "fleet.held":
            return f"everything waits for the {_text(data.get('by'))}{reason}"
        case "fleet.free":
            return f"the {_text(data.get('by'))} is well again after {_number(data.get('seconds')):.1f} s"
        case "agent.fault":
            return f"{who}a fault of the environment, to be tried again{reason}"
        case "agent.begun_anew":
            return f"{who}begun anew{reason}"
        case "agent.nudged":
            return f"{who}nudged{reason}"
        case "sandbox.gone":
            return f"{who}its sandbox is gone and forked anew"
        case "baseline.ready":
            return f"the baseline is ready, version {_text(data.get('version'))[:12]}"
        case "baseline.fault":
            return f"the baseline is sick{reason}"
        case "agent.state":
            iteration = _count(data.get("iterations"))
            nth = f" (iteration {iteration})" if iteration and data.get("state") == "generating" else ""
            return f"{who}{_text(data.get('state'))}{nth}{reason}"
        case "static.finished" if data.get("passed") is False:
            return f"{who}a static check fails"
        case "fork.failed":
            return f"{who}the fork of {_text(data.get('service'))} failed{reason}"
        case "verdict":
            return f"{who}verdict {_text(data.get('conclusion'))}{reason}"
        case _:
            return None
