"""The story of a run, as a replay is told it: all of it in memory at once, so it is bounded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from tasks.events import Event, EventKind
from tui.fleet import number

if TYPE_CHECKING:
    from sqlmodel import Session

STORY: Final = (
    "run.started",
    "run.resumed",
    "run.interrupted",
    "fleet.held",
    "fleet.free",
    "agent.state",
    "agent.activity",
    "agent.waited",
    "agent.fault",
    "model.call",
    "verdict",
)
"""The kinds of events from which a fleet can be made."""
SAID: Final = "agent.activity"
MOST: Final = 300_000
"""Of what agents said that they do: of more every second or third is told."""
_AT_ONCE: Final = 10_000


def whole_story(session: Session, run: str) -> tuple[Event, ...]:
    """The run's events of these kinds, oldest first."""
    from sqlalchemy import func
    from sqlmodel import col, select

    from harness.store.tables import EventRow

    said = select(func.count()).where(EventRow.run == run, EventRow.kind == SAID)
    every = session.exec(said).one() // MOST + 1
    columns = (col(EventRow.kind), col(EventRow.ticket), col(EventRow.data), col(EventRow.at))
    query = select(*columns).where(EventRow.run == run, col(EventRow.kind).in_(STORY))
    rows = session.exec(query.order_by(col(EventRow.seq)).execution_options(yield_per=_AT_ONCE))
    told, counted = [], 0
    for kind, of, data, at in rows:
        counted += kind == SAID
        if kind != SAID or counted % every == 0:
            told.append(event_of(run, kind, of, data, at))
    return tuple(told)


def mapping(text: str) -> dict[str, Any]:
    """An object that a row holds as JSON; empty where it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def event_of(run: str, kind: str, ticket: str | None, data: str, at: float) -> Event:
    """An event out of its row."""
    return Event(cast(EventKind, kind), run, ticket, mapping(data), number(at))
