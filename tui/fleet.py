"""All agents of a run as they are in one moment: a snapshot, or an empty backlog, and the events that came since.

Pure: no clock, no screen. Events may be of a later version, so nothing here trusts their data.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tasks.events import Event
from tasks.states import FINAL_STATES, WORKING_STATES, is_final
from tasks.text import one_line
from tui.feed import Agent, Run, Snapshot

STALLED_S: Final = 120.0
"""A call of the model seldom takes longer, and nothing else of an agent is silent for so long."""
_LIMITED_S: Final = 60.0
_RATE_S: Final = 300.0
_TEXT: Final = 160
IDLE_STATES: Final = ("queued", "paused")

Told = Callable[[Event], str | None]
"""What an agent does by an event, in words; None where the event does not tell."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Agents by ticket, in the backlog's order."""

    agents: Mapping[str, Agent] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    """What everything waits for, and why."""
    waits: tuple[tuple[float, str, float], ...] = ()
    """The last waits in front of limits: when they ended, for what, how many seconds."""

    def after(self, events: Iterable[Event], *, told: Told | None = None) -> Fleet:
        """The fleet after these events. `told` finds other words than `doing` for what an agent does."""
        agents, held, waits = dict(self.agents), dict(self.held), list(self.waits)
        for event in events:
            if event.ticket is not None:
                agents[event.ticket] = _moved(agents.get(event.ticket, Agent(event.ticket)), event, told or doing)
            match event.kind:
                case "fleet.held":
                    held[text_of(event.data.get("by"))] = text_of(event.data.get("reason"))
                case "fleet.free":
                    held.pop(text_of(event.data.get("by")), None)
                case "run.resumed" | "run.interrupted":
                    held.clear()
                case "agent.waited":
                    waits.append((event.at, text_of(event.data.get("for")), number(event.data.get("seconds"))))
                case _:
                    pass
        newest = waits[-1][0] if waits else 0.0
        return Fleet(agents, held, tuple(one for one in waits if one[0] > newest - _LIMITED_S))

    @property
    def cost_usd(self) -> float:
        return sum(agent.cost_usd for agent in self.agents.values())

    @property
    def ended(self) -> int:
        return sum(is_final(agent.state) for agent in self.agents.values())

    def totals(self) -> dict[str, int]:
        """See `counted`."""
        return counted(self.agents.values())


def counted(agents: Iterable[Agent]) -> dict[str, int]:
    """Agents by state, in the order of the loop; states that nobody is in are left out."""
    counts = Counter(agent.state for agent in agents)
    return {state: counts[state] for state in (*FINAL_STATES, *reversed(WORKING_STATES)) if counts[state]}


def fleet_of(snapshot: Snapshot) -> Fleet:
    """The fleet of a snapshot. Its rows say how things are, the events before it since when and what was done."""
    begun = {agent.ticket: agent for agent in snapshot.agents}
    told = Fleet(begun).after(snapshot.recent)
    # Who is not in them was silent since their first at least; since when, nobody looked up.
    silent = snapshot.recent[0].at if snapshot.recent else 0.0
    agents = {}
    for ticket, agent in begun.items():
        last = told.agents[ticket]
        if last is agent and not (agent.began or agent.ended):
            # It has not begun, and nothing is to be told of it; in a long backlog most are so.
            agents[ticket] = agent
            continue
        fresh = last.state == agent.state
        since = last.since if fresh and last.since else agent.ended or agent.began
        doing = last.doing if fresh and not is_final(agent.state) else ""
        heard, verdict = max(last.heard, agent.heard, since, silent), last.verdict or agent.verdict
        agents[ticket] = replace(agent, since=since, heard=heard, doing=doing, verdict=verdict)
    return replace(told, agents=agents)


def unbegun(run: Run, agents: Iterable[Agent]) -> Fleet:
    """The fleet of a run that has not begun: where a replay starts."""
    return Fleet({one.ticket: Agent(one.ticket, one.title, since=run.began, heard=run.began) for one in agents})


def _moved(agent: Agent, event: Event, told: Told) -> Agent:
    data, does = event.data, told(event)
    agent = replace(agent, heard=max(agent.heard, event.at), doing=agent.doing if does is None else does)
    match event.kind:
        case "agent.state":
            return _in_state(agent, event)
        case "model.call":
            cost = agent.cost_usd + number(data.get("cost_usd"))
            return replace(agent, cost_usd=cost, model_calls=agent.model_calls + 1)
        case "verdict":
            return replace(agent, verdict=text_of(data.get("conclusion")))
        case _:
            return agent


def doing(event: Event) -> str | None:
    """What an agent does by this event; None where the event does not tell."""
    data = event.data
    match event.kind:
        case "agent.activity":
            return text_of(data.get("doing"))
        case "agent.waited" if (seconds := number(data.get("seconds"))) >= 1:
            return f"waited {seconds:.0f} s for {text_of(data.get('for'))}"
        case "agent.fault":
            return f"to be tried again: {text_of(data.get('reason'))}"
        case "verdict":
            return f"{text_of(data.get('conclusion'))}: {text_of(data.get('reason'))}"
        case _:
            return None


def _in_state(agent: Agent, event: Event) -> Agent:
    data, state = event.data, text_of(event.data.get("state")) or agent.state
    if state == "queued" and "attempt" in data:
        begun = Agent(agent.ticket, agent.title, attempt=int(number(data["attempt"])), reason="retried")
        return replace(begun, since=event.at, heard=event.at)
    return replace(
        agent,
        state=state,
        reason=text_of(data.get("reason")),
        iteration=int(number(data.get("iterations"))) or agent.iteration,
        began=agent.began or (event.at if state != "queued" else 0.0),
        ended=event.at if is_final(state) else 0.0,
        since=event.at if state != agent.state else agent.since or event.at,
        doing="",
    )


def stalled(agent: Agent, now: float) -> bool:
    """Whether it should be at work and was not heard of for long. Who is queued or paused is idle, not stalled."""
    return not is_final(agent.state) and agent.state not in IDLE_STATES and now - agent.heard > STALLED_S


def rank(agent: Agent, now: float) -> int:
    """How much it needs attention: the lower, the more."""
    if agent.state in _RANKS:
        return _RANKS[agent.state]
    if stalled(agent, now):
        return 2
    return 5 if agent.verdict in ("failed", "unproven") else 6


_RANKS: Final = {
    "needs_human": 0,
    "error": 1,
    "failed": 3,
    "unproven": 4,
    "paused": 7,
    "queued": 8,
    "cancelled": 9,
    "verified": 10,
}

Order = Callable[[Agent], tuple[float, ...]]


def orders(now: float) -> dict[str, Order]:
    """The orders in which agents can be listed, by name; equal ones keep the backlog's order."""
    return {
        "attention": lambda agent: (rank(agent, now),),
        "backlog": lambda agent: (),
        "longest": lambda agent: (is_final(agent.state) or agent.state == "queued", agent.since),
        "cost": lambda agent: (-agent.cost_usd,),
    }


def per_minute(fleet: Fleet, began: float, now: float) -> float:
    """How many tickets ended a minute, of late."""
    window_s = min(_RATE_S, now - began)
    if window_s <= 0:
        return 0.0
    return sum(now - window_s < agent.ended <= now for agent in fleet.agents.values()) / window_s * 60


def left_s(fleet: Fleet, run: Run) -> float | None:
    """An estimate of how long the run still takes, in seconds; None before enough tickets have ended to tell."""
    took = [one.ended - one.began for one in fleet.agents.values() if one.ended and one.began]
    left = len(fleet.agents) - fleet.ended
    if len(took) < 3 or not left:
        return None
    slots = run.limits.get("agents", left)
    return sum(took) / len(took) * max(1.0, left / max(1, min(slots, left)))


def limiting(fleet: Fleet, run: Run, now: float) -> str:
    """What limits the run now, in a sentence; empty where nothing does."""
    if run.over or not run.worked_on:
        return ""
    if fleet.held:
        return "; ".join(f"everything waits for the {by}: {why}" for by, why in fleet.held.items())
    said = []
    working = sum(not is_final(one.state) and one.state not in IDLE_STATES for one in fleet.agents.values())
    queued = sum(one.state == "queued" for one in fleet.agents.values())
    slots = run.limits.get("agents")
    if slots and working >= slots and queued:
        said.append(f"agents (all {slots} slots taken, {queued} queued)")
    seconds: Counter[str] = Counter()
    for at, what, took_s in fleet.waits:
        if at > now - _LIMITED_S and what != "agents":
            seconds[what] += int(took_s * 1000)
    said += [f"{what} ({ms / 1000:.0f} s waited in the last minute)" for what, ms in seconds.most_common(2) if ms > 999]
    return ", ".join(said)


def text_of(value: Any) -> str:
    """A value of an event as one plain line."""
    return "" if value is None else one_line(str(value), _TEXT)


def number(value: Any) -> float:
    """A number of an event; 0 where it is none, or none to reckon with."""
    try:
        found = float(value) if isinstance(value, int | float) else 0.0
    except OverflowError:
        return 0.0
    return found if math.isfinite(found) else 0.0
