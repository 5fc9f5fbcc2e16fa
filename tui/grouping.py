"""Agents in groups: by state, by the services that they may change, by why they are as they are. Pure.

Groups stand in an order of their own, so that none jumps as agents move; within one, agents keep the order that they
had.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args

from tasks.states import WORKING_STATES, is_final
from tui.feed import Agent
from tui.filtering import Services
from tui.fleet import IDLE_STATES, counted, rank, stalled

By = Literal["state", "service", "reason"]
GROUPINGS: Final[tuple[By, ...]] = get_args(By)
"""By what agents can be grouped."""
STALLED: Final = "stalled"
NO_SERVICE: Final = "no service is known"
AT_WORK: Final = "at work"
NO_REASON: Final = "no reason is given"
_STATES: Final = (
    "needs_human",
    "error",
    STALLED,
    "failed",
    "unproven",
    *(state for state in reversed(WORKING_STATES) if state not in IDLE_STATES),
    "paused",
    "queued",
    "cancelled",
    "verified",
)
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Group:
    """Agents that have something in common. Without a name they are all, and no group."""

    name: str
    agents: tuple[Agent, ...]

    def states(self) -> dict[str, int]:
        """How many are in which state."""
        return counted(self.agents)


def grouped(agents: Iterable[Agent], by: By | None, services: Services, now: float) -> list[Group]:
    """The agents in groups, or all as one without a name. `services` are those that each ticket may change."""
    if by is None:
        return [Group("", tuple(agents))]
    found: dict[str, list[Agent]] = {}
    name = _NAMES[by]
    for agent in agents:
        found.setdefault(name(agent, services, now), []).append(agent)
    groups = [Group(_said(one, some) if by == "reason" else one, tuple(some)) for one, some in found.items()]
    return sorted(groups, key=lambda group: _place(group, by, now))


def _place(group: Group, by: By, now: float) -> tuple[int, str]:
    if by == "state":
        return (_STATES.index(group.name) if group.name in _STATES else len(_STATES), group.name)
    if by == "service":
        return (group.name == NO_SERVICE, group.name)
    return (min(rank(agent, now) for agent in group.agents), group.name)


def _state(agent: Agent, services: Services, now: float) -> str:
    return STALLED if stalled(agent, now) else agent.state


def _services(agent: Agent, services: Services, now: float) -> str:
    # Who may change several is in one group all the same: that of those services.
    return " + ".join(sorted(services.get(agent.ticket, ()))) or NO_SERVICE


def _reason(agent: Agent, services: Services, now: float) -> str:
    if stalled(agent, now):
        return STALLED
    if not agent.reason:
        return NO_REASON if is_final(agent.state) or agent.state in IDLE_STATES else AT_WORK
    return _alike(agent.reason, agent.ticket)


@lru_cache(maxsize=20_000)
def _alike(reason: str, ticket: str) -> str:
    """What the reason has in common with those that differ from it in numbers, and in whose they are."""
    if ticket in reason:
        reason = re.sub(rf"(?<![\w-]){re.escape(ticket)}(?![\w-])", "…", reason)
    return _NUMBER.sub("…", reason)


def _said(alike: str, agents: Sequence[Agent]) -> str:
    """The reason itself, where it is the same for all."""
    reasons = {agent.reason for agent in agents}
    first = agents[0]
    return first.reason if reasons == {first.reason} and _alike(first.reason, first.ticket) == alike else alike


_NAMES: Final[dict[By, Callable[[Agent, Services, float], str]]] = {
    "state": _state,
    "service": _services,
    "reason": _reason,
}
