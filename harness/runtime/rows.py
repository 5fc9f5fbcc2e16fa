"""Rows of the store as the screen's values. What is none of ours in a row is not known: SQLite takes any value in any
column, and one that is damaged hides no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.runtime.story import event_of, mapping
from tasks.events import Event
from tasks.states import is_final
from tui.feed import LIMITS, RUN_BUDGETS, TICKET_BUDGETS, Agent
from tui.fleet import number

if TYPE_CHECKING:
    from sqlmodel import Session

    from harness.store.tables import RunRow

_MOST: Final = 20_000
_LONGEST: Final = 1000
"""Of a text that is shown in a line, in characters; it is looked at four times a second."""
OF_AGENTS: Final = (
    "ticket",
    "title",
    "state",
    "reason",
    "wish",
    "attempt",
    "iterations",
    "cost_usd",
    "model_calls",
    "started_at",
    "ended_at",
    "limits",
)
"""What a snapshot reads of each agent's row."""

Numbered = tuple[int, Event]
"""An event with its number in the store."""


def events(session: Session, run: str, *, after: int = 0, newest: int | None = None) -> list[Numbered]:
    """Events of the run, oldest first: those after a number, or the newest ones."""
    from sqlmodel import col, select

    from harness.store.tables import EventRow

    columns = (col(EventRow.seq), col(EventRow.kind), col(EventRow.ticket), col(EventRow.data), col(EventRow.at))
    query = select(*columns).where(EventRow.run == run)  # type: ignore[call-overload]  # SQLModel types at most four columns
    if newest is not None:
        rows = list(session.exec(query.order_by(col(EventRow.seq).desc()).limit(newest)))[::-1]
    else:
        rows = list(session.exec(query.where(col(EventRow.seq) > after).order_by(col(EventRow.seq)).limit(_MOST)))
    return [(seq, event_of(run, *event)) for seq, *event in rows]


def agent(row: Sequence[Any], verdict: str) -> Agent:
    """An agent out of `OF_AGENTS` and what its last verdict concluded."""
    # Unpacked: by name, the columns of ten thousand rows are looked up for a tenth of a second.
    ticket, title, state, reason, wish, attempt, iterations, cost_usd, model_calls, began, ended, limits = row
    return Agent(
        ticket=str(ticket),
        title=str(title)[:_LONGEST],
        state=str(state),
        reason=str(reason)[:_LONGEST],
        wish="" if is_final(state) else str(wish),
        attempt=int(number(attempt)),
        iteration=int(number(iterations)),
        verdict=verdict,
        cost_usd=number(cost_usd),
        model_calls=int(number(model_calls)),
        began=number(began),
        ended=number(ended),
        budgets={} if limits == "{}" else budgets(mapping(limits)),
    )


def limits(said: Mapping[str, Any]) -> dict[str, int]:
    """Those of `LIMITS` that are said."""
    return {name: said[name] for name in LIMITS if isinstance(said.get(name), int)}


def budgets(said: Mapping[str, Any]) -> dict[str, float]:
    """Those of `RUN_BUDGETS` and `TICKET_BUDGETS` that are said."""
    return {name: said[name] for name in (*RUN_BUDGETS, *TICKET_BUDGETS) if isinstance(said.get(name), int | float)}


def settings(row: RunRow, part: str) -> dict[str, Any]:
    """A part of the settings with which the run began."""
    found = mapping(row.settings).get(part)
    return found if isinstance(found, dict) else {}
