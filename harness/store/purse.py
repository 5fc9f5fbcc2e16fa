"""The purse of a run: what of its budget each worker holds, so that all together never use more than there is.

A worker that is alone holds all of it. Where there are others, each takes for the calls that it is about to make, and a
little ahead; what nobody holds is for whoever asks first. Nobody keeps what is too little for one call: two who did
would wait for each other. What a dead worker held goes back with all else it had, and so does what one holds that has
stood still for as long as a lease.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select
from sqlmodel import Session, col

from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.tables import AgentRow, AttemptRow, RunRow, WorkerRow

CALLS: Final = "calls"
TOKENS: Final = "tokens"
COST_USD: Final = "cost_usd"


Measures = Mapping[str, float]
"""By `CALLS`, `TOKENS` and `COST_USD`."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a worker is about to use."""

    busy: Measures
    """By calls in flight."""
    waiting: Measures
    """By all calls that wait for room in the budget."""
    one: Measures
    """By the first of those; where none waits, by a call like those before."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is known when a worker has taken."""

    used: Measures
    """By the whole run, in earlier attempts at its tickets too."""
    mine: Measures | None
    """What this worker may use from now on, its calls in flight included; None where nobody else is there."""


class Purse:
    """One worker's hand in the purse."""

    def __init__(self, database: Database, run: str, claims: Claims) -> None:
        self._database, self._run, self._claims = database, run, claims

    async def alone(self) -> Measures | None:
        """Hold all, where nobody else is there; what the whole run has used, as `Held.used`. None where somebody is,
        and nothing has changed."""

        def write(session: Session) -> Measures | None:
            if self._others(session):
                return None
            self._hold(session, None)
            return _used(session, self._run)

        return await self._database.write(write)

    async def take(self, caps: Measures, needs: Needs) -> Held:
        """Give back what is held, and take what can be had of `needs`, or more where there is much. What this worker
        has used was noted before this is called, and until this returns it uses nothing more than `needs.busy`."""

        def write(session: Session) -> Held:
            others, used, mine = self._others(session), _used(session, self._run), None
            if others:
                free = {name: _free(cap, used[name] + _held(others, name)) for name, cap in caps.items()}
                mine = _parts(free, needs, len(others) + 1)
            self._hold(session, mine)
            return Held(used, mine)

        return await self._database.write(write)

    def _others(self, session: Session) -> list[WorkerRow]:
        """Those who hold something too; none of them takes or gives anything until the transaction has ended."""
        session.get_one(RunRow, self._run, with_for_update=True)
        now = self._database.now(session)
        # One that stands still makes no call before it has shown that it lives, and has asked anew what it may use.
        return [one for one in self._claims.workers.others(session, now) if self._claims.workers.shows(one, now)]

    def _hold(self, session: Session, mine: Measures | None) -> None:
        me = session.get_one(WorkerRow, self._claims.worker)
        # What is held by one who stood still would be nothing to the others.
        self._claims.workers.seen(session, self._database.now(session))
        # Of what has no cap everything is held, should it get one.
        me.holds = json.dumps(mine and {name: part for name, part in mine.items() if part < math.inf})
        session.add(me)


def _free(cap: float, taken: float) -> float:
    return cap if cap == math.inf else max(0.0, cap - taken)


def _parts(free: Measures, needs: Needs, workers: int) -> dict[str, float]:
    """What to hold of what is free. Calls in flight hold theirs, whatever there is: what others have used since
    they took is counted twice until they take again, so that there may seem to be less."""
    idle = not (any(needs.busy.values()) or any(needs.waiting.values()))
    if idle or any(free[name] < needs.busy[name] + needs.one[name] for name in free):
        return {name: left if left == math.inf else needs.busy[name] for name, left in free.items()}
    return {name: min(left, _wanted(name, left, needs, workers)) for name, left in free.items()}


def _wanted(name: str, free: float, needs: Needs, workers: int) -> float:
    ahead = free / (2 * workers)
    whole = math.floor(ahead) if name == CALLS and free < math.inf else ahead
    return needs.busy[name] + max(needs.one[name], needs.waiting[name], whole - needs.busy[name])


def _held(workers: Sequence[WorkerRow], name: str) -> float:
    return sum(float((json.loads(one.holds) or {}).get(name, math.inf)) for one in workers)


def _used(session: Session, run: str) -> dict[str, float]:
    counted = col(AgentRow.input_tokens) + col(AgentRow.cache_write_tokens) + col(AgentRow.output_tokens)
    by_agents = _sums(session, col(AgentRow.run) == run, AgentRow.model_calls, counted, AgentRow.cost_usd)
    before = _sums(session, col(AttemptRow.run) == run, AttemptRow.model_calls, AttemptRow.tokens, AttemptRow.cost_usd)
    return {name: one + other for name, one, other in zip((CALLS, TOKENS, COST_USD), by_agents, before, strict=True)}


def _sums(session: Session, where: ColumnElement[bool], *columns: Any) -> list[float]:
    sums = [func.coalesce(func.sum(column), 0) for column in columns]
    return [float(found) for found in session.connection().execute(select(*sums).where(where)).one()]
