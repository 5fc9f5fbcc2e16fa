"""Where the tickets of a run stand, as whoever starts tickets must know it: read, never written here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from sqlmodel import Session, col, select

from harness.store.tables import AgentRow

LONGEST_WAIT_S: Final = 60.0
"""After a fault of the environment."""


Free = Callable[[str, str | None, float | None], bool]
"""Told a ticket, its holder and when its lease ends by the store's time: whether anybody may take it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one ticket of a run stands."""

    ticket: str
    state: str
    wish: str
    attempt: int
    holder: str | None
    """Who works on it; nobody where it is free."""
    not_before: float
    """By this machine's clock; 0: at once."""
    iterations: int
    worked_s: float
    faults: int
    environment: bool
    carries_on: int
    """The attempt from whose end this one goes on; 0: none."""
    limits: str
    """Its own budgets, as JSON."""


def standings_of(session: Session, run: str, now: float, is_free: Free) -> tuple[Standing, ...]:
    """All tickets of the run in their order; `now` is the store's time."""
    query = (
        select(
            AgentRow.ticket,
            AgentRow.state,
            AgentRow.wish,
            AgentRow.attempt,
            AgentRow.holder,
            AgentRow.not_before,
            AgentRow.iterations,
            AgentRow.worked_s,
            AgentRow.faults,
            AgentRow.environment,
            AgentRow.carries_on,
            AgentRow.limits,
            AgentRow.lease_ends,
        )  # type: ignore[call-overload]  # SQLModel types at most four columns
        .where(AgentRow.run == run)
        .order_by(col(AgentRow.place))
    )
    found = []
    ahead_s = time.time() - now
    for *said, lease_ends in session.exec(query):
        standing = Standing(*said)
        if standing.not_before:
            standing = replace(standing, not_before=standing.not_before + ahead_s)
        free = is_free(standing.ticket, standing.holder, lease_ends)
        found.append(replace(standing, holder=None) if free else standing)
    return tuple(found)


def waits(not_before: float, now: float) -> bool:
    """Whether a ticket is not to be tried yet. What lies further ahead was said before the clock was set back."""
    return 0.0 < not_before - now <= LONGEST_WAIT_S
