"""The journal of one run: every event appended, every state moved, listeners told at once.

An agent's row is what the events say of it so far, written in the same transaction as the event. A worker's journal
writes only about tickets that nobody else has.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import cache
from typing import Any, cast

from sqlalchemy import Connection, Update, and_, bindparam, insert, select, update
from sqlmodel import Session, col

from graphs.ports import LeaseLost
from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.tables import AgentRow, EventRow
from tasks.errors import StoreError
from tasks.events import Event, EventKind
from tasks.states import AgentState, is_final, may_move

Listener = Callable[[Event], None]

_COUNTED = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd")
_KNOWN = ("iterations", "sandbox", "branch", "commit", "verdict", "submission", "environment")
_FOLDED = ("agent.state", "agent.nudged", "model.call", "verdict")
"""The kinds of events that change the agent's row."""
# Not as objects of a session: those cost several times what is written.
_EVENT = insert(EventRow)
_THIS = and_(col(AgentRow.run) == bindparam("of_run"), col(AgentRow.ticket) == bindparam("of_ticket"))
_STATE = select(col(AgentRow.state), col(AgentRow.started_at)).where(_THIS).with_for_update()
_ROW = update(AgentRow).where(_THIS)
_CALLED = _ROW.values(
    model_calls=AgentRow.model_calls + 1,
    **{name: getattr(AgentRow, name) + bindparam(f"more_{name}") for name in _COUNTED},
)
_NUDGED = _ROW.values(nudges=AgentRow.nudges + 1)
_JUDGED = _ROW.values(failed_verdicts=AgentRow.failed_verdicts + bindparam("more"))


class IllegalMove(RuntimeError):
    """A state was to be moved in a way that tasks.states does not allow: our defect, or an end that came first."""

    def __init__(self, ticket: str, old: AgentState, new: AgentState) -> None:
        super().__init__(f"agent of {ticket!r}: {old} cannot become {new}")
        self.old, self.new = old, new


class StoreJournal:
    """Implements graphs.ports.Journal over the database."""

    def __init__(
        self,
        database: Database,
        run: str,
        *,
        claims: Claims | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without `claims` it is nobody's, and writes about every ticket."""
        self._database, self._run, self._claims, self._clock = database, run, claims, clock
        self._listeners: list[Listener] = []
        self._failure: Exception | None = None
        self._placed: set[tuple[str, int]] = set()
        """Tickets, with the generations in which they were claimed, that were moved since."""

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every further event, in this thread. It must be quick and never raise."""
        self._listeners.append(listener)

    def emit(self, kind: EventKind, ticket: str | None = None, data: Mapping[str, Any] | None = None) -> Future[bool]:
        event = self._event(kind, ticket, data)
        try:
            noted = self._database.post(lambda session: self._append(session, event))
        except StoreError as error:
            noted = Future()
            noted.set_exception(error)
        noted.add_done_callback(self._remember)
        self._tell(event)
        return noted

    async def move(
        self, ticket: str, state: AgentState, reason: str = "", data: Mapping[str, Any] | None = None
    ) -> None:
        """Move the agent, durably. To say the same end again changes nothing: a step repeated after a crash does.

        The first move of a ticket that was claimed may come from any state that is no end: after a loss of power its
        row and its position, which lie in two files, may be some steps apart.

        Raises IllegalMove, LeaseLost, StoreError (also for an event that was lost before).
        """
        if self._failure is not None:
            raise self._failure
        event = self._event("agent.state", ticket, {"state": state, "reason": reason, **(data or {})})
        generation = self._claims.held.get(ticket) if self._claims is not None else None
        first = generation is not None and not is_final(state) and (ticket, generation) not in self._placed
        if await self._database.write(lambda session: self._append(session, event, anywhence=first)):
            self._tell(event)
        if generation is not None:
            self._placed.add((ticket, generation))

    def _event(self, kind: EventKind, ticket: str | None, data: Mapping[str, Any] | None) -> Event:
        return Event(kind, self._run, ticket, dict(data or {}), self._clock())

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _remember(self, future: Future[bool]) -> None:
        # What is said of a ticket that was lost is for nobody; its next move tells.
        if (error := future.exception()) is not None and not isinstance(error, LeaseLost):
            self._failure = cast(Exception, error)

    def _append(self, session: Session, event: Event, *, anywhence: bool = False) -> bool:
        """Note the event; False where it says what is known. `anywhence`: a move from any state that is no end."""
        if event.ticket is not None and self._claims is not None:
            self._claims.fence(session, event.ticket)
        connection = session.connection()
        if event.ticket is not None and event.kind in _FOLDED and not _fold(connection, event, event.ticket, anywhence):
            return False
        row = {"run": event.run, "ticket": event.ticket, "kind": event.kind, "at": event.at}
        data = json.dumps(event.data, separators=(",", ":"), ensure_ascii=False)
        connection.execute(_EVENT, {**row, "data": data})
        return True


def _fold(connection: Connection, event: Event, ticket: str, anywhence: bool) -> bool:
    """Change the row of the event's agent as it says; False where it says what is known."""
    data, this = event.data, {"of_run": event.run, "of_ticket": ticket}
    if event.kind == "model.call":
        connection.execute(_CALLED, {**this, **{f"more_{name}": data.get(name) or 0 for name in _COUNTED}})
    elif event.kind == "agent.nudged":
        connection.execute(_NUDGED, this)
    elif event.kind == "verdict":
        connection.execute(_JUDGED, {**this, "more": int(data["conclusion"] == "failed")})
    elif (found := connection.execute(_STATE, this).first()) is not None:
        old, state = cast(AgentState, found.state), cast(AgentState, data["state"])
        if is_final(old) and old == state:
            return False
        if not (may_move(old, state) or (anywhence and not is_final(old))):
            raise IllegalMove(ticket, old, state)
        values: dict[str, Any] = {"state": state, "reason": data.get("reason", "")}
        values |= {name: data[name] for name in _KNOWN if name in data}
        if found.started_at is None and state != "queued":
            values["started_at"] = event.at
        if is_final(state):
            values |= {"ended_at": event.at, "holder": None, "lease_ends": None, "wish": ""}
        connection.execute(_moved(*values), {**this, **{f"new_{name}": value for name, value in values.items()}})
    return True


@cache
def _moved(*names: str) -> Update:
    """Sets these columns of an agent's row. To make a statement takes longer than to run it."""
    return _ROW.values({name: bindparam(f"new_{name}") for name in names})
