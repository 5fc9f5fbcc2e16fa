"""What may be started next, what may not and why, what will never be: from the backlog and where its tickets stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from harness.store.standings import Standing, waits
from tasks.states import FINAL_STATES, WORKING_STATES
from tasks.ticket import Ticket

AFTER_FAULT: Final = "tries again after a fault of the environment"
_HOUSED: Final = 1000.0
"""By how much one that has a sandbox is more urgent to the machine: by hours of waiting."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """One look at a run."""

    ready: tuple[str, ...]
    """Tickets that nobody has and nothing holds, the one to be started first in front."""
    held: Mapping[str, str]
    """Why each of the others that nobody has is not started."""
    doomed: Mapping[str, str]
    """Tickets that can only be cancelled, and why."""
    over: bool
    """Whether all have ended."""


def look_ahead(tickets: Iterable[Ticket], standings: Mapping[str, Standing], *, wish: str, now: float) -> Outlook:
    """`wish` is what the user wants of the whole run. `now` in seconds since the epoch."""
    ready: list[tuple[tuple[float, ...], str]] = []
    held: dict[str, str] = {}
    doomed: dict[str, str] = {}
    over = True
    for place, ticket in enumerate(tickets):
        one = standings[ticket.id]
        if one.state in FINAL_STATES:
            continue
        over = False
        if one.holder is not None:
            continue
        if "cancelled" in (wish, one.wish) and one.state != "submitting":
            doomed[ticket.id] = "cancelled by the user"
        elif (lost := _lost_dependency(ticket, standings)) is not None:
            doomed[ticket.id] = f"it depends on {lost!r}, which was not verified"
        elif "paused" in (wish, one.wish) and one.state != "submitting":
            held[ticket.id] = "paused by the user"
        elif (awaited := _awaited_dependency(ticket, standings)) is not None:
            held[ticket.id] = f"depends on {awaited!r}, which has not ended"
        elif waits(one.not_before, now):
            held[ticket.id] = AFTER_FAULT
        else:
            ready.append((_order(ticket, one, place), ticket.id))
    return Outlook(tuple(name for _, name in sorted(ready)), held, doomed, over)


def urgency(standing: Standing) -> float:
    """How urgent a ticket at work is, in units of `gates.AGED_S`: one near its end comes before one that begins."""
    return standing.iterations + WORKING_STATES.index(standing.state) / len(WORKING_STATES)


def pressure(standing: Standing) -> float:
    """How urgent a ticket at work is to the machine: one that has a sandbox comes before all that have none. Where many
    hundred begin, most would else wait for their checks with a sandbox each, and take all the memory that there is."""
    housed = standing.iterations > 1 or standing.state in ("validating", "submitting")
    return urgency(standing) + (_HOUSED if housed else 0.0)


def _order(ticket: Ticket, standing: Standing, place: int) -> tuple[float, ...]:
    """What was begun comes first, then what the backlog wants first. `place` keeps the rest in turn: none starves."""
    begun = standing.state != "queued"
    return (not begun, -standing.iterations, -ticket.priority, place)


def _lost_dependency(ticket: Ticket, standings: Mapping[str, Standing]) -> str | None:
    for wanted in ticket.depends:
        # A dependency that is not part of the run is not waited for.
        if wanted in standings and standings[wanted].state in FINAL_STATES and standings[wanted].state != "verified":
            return wanted
    return None


def _awaited_dependency(ticket: Ticket, standings: Mapping[str, Standing]) -> str | None:
    for wanted in ticket.depends:
        if wanted in standings and standings[wanted].state not in FINAL_STATES:
            return wanted
    return None
