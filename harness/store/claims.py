"""Claims: who works on which ticket. One process works on a run alone, or several share it, by the same rules.

A claim is a lease with a generation. Every write about a ticket shows the generation that its writer holds, and a
write of an earlier one is refused with `LeaseLost`: a worker that was taken for dead can do no harm, whatever clocks
say. What dead workers had is free: see harness.store.workers.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import bindparam
from sqlmodel import Session, col, func, select

from graphs.ports import LeaseLost
from harness.store.database import Database
from harness.store.standings import Standing, standings_of, waits
from harness.store.tables import AgentRow, RunRow, WorkerRow
from harness.store.workers import Workers, machine
from tasks.errors import UsageError
from tasks.states import FINAL_STATES

LEASE_S: Final = 30.0
"""How long a worker elsewhere counts as alive without a sign of life."""
# Asked for every event: as objects of a session, rows would cost three times as much.
_HELD_BY: Final = (
    select(AgentRow.generation, AgentRow.holder)
    .where(AgentRow.run == bindparam("of_run"), AgentRow.ticket == bindparam("of_ticket"))
    .with_for_update()
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants of the run by now, and who works on it."""

    revision: int
    wish: str
    limits: str
    """JSON."""
    workers: int
    """Alive, this one included."""
    dead: bool
    """Whether there are others whose tickets are to be freed by `bury`."""


class Claims:
    """The claims of one worker on one run. `begin` before all else, `end` last."""

    def __init__(
        self,
        database: Database,
        run: str,
        *,
        leads: bool = True,
        lease_s: float = LEASE_S,
        clock: Callable[[Session], float] | None = None,
    ) -> None:
        """`clock` instead of the store's own."""
        self._database, self._run, self._leads = database, run, leads
        self._lease_s, self._now = lease_s, clock or database.now
        self.worker = secrets.token_hex(6)
        self.workers = Workers(run, self.worker, lease_s)
        self.held: dict[str, int] = {}
        """Generation by ticket: what this worker has."""
        self._alive_at = _since_boot()

    async def begin(self) -> None:
        """Enter the run; what dead workers had is free then. UsageError for who would lead a run that is worked on."""

        def write(session: Session) -> None:
            # One at a time: two that begin in the same moment must see one another.
            session.get_one(RunRow, self._run, with_for_update=True)
            now = self._now(session)
            self._refuse(self.workers.bury(session, now))
            self.workers.enter(session, now, leads=self._leads)

        # It may be long since this object was made: a baseline was built and started meanwhile.
        asked_at = _since_boot()
        await self._database.write(write)
        self._alive_at = asked_at

    async def refuse(self) -> None:
        """UsageError where `begin` would raise it: before anything is started."""
        self._refuse(await self.others())

    async def others(self) -> list[WorkerRow]:
        """The workers that live, without this one."""
        return await self._database.read(lambda session: self.workers.others(session, self._now(session)))

    def _refuse(self, others: Sequence[WorkerRow]) -> None:
        if others and self._leads:
            by = others[0].where
            raise UsageError(f"run {self._run} is being worked on by {by}", hint="`spurline worker` shares the work")

    def generation(self, ticket: str) -> int | None:
        """The generation in which this worker has the ticket, None where it does not. LeaseLost where somebody else may
        have taken it, for all that can be told without asking: no sign of life was shown for as long as a lease."""
        mine = self.held.get(ticket)
        if mine is not None and self.stood_still:
            raise LeaseLost(ticket)
        return mine

    @property
    def stood_still(self) -> bool:
        """Whether this worker has shown no sign of life for as long as a lease."""
        return _since_boot() - self._alive_at > self._lease_s

    def ensure(self, ticket: str) -> None:
        """LeaseLost where this worker does not have the ticket, or `generation` doubts it."""
        if self.generation(ticket) is None:
            raise LeaseLost(ticket)

    def compare(self, ticket: str, generation: int, holder: str | None) -> None:
        """LeaseLost where the store says that somebody else has the ticket, or had it since."""
        mine = self.held.get(ticket)
        if (mine is not None and generation != mine) or holder not in (None, self.worker):
            raise LeaseLost(ticket)

    async def end(self) -> None:
        """Leave the run; what this worker still has is free."""
        await self._database.write(lambda session: self.workers.leave(session, self._now(session)))
        self.held.clear()

    async def standings(self) -> tuple[Standing, ...]:
        """Where all tickets of the run stand: see harness.store.standings. Who lets a lease lapse does not hold its
        ticket, nor does this worker hold what it has lost."""

        def read(session: Session) -> tuple[Standing, ...]:
            now = self._now(session)
            return standings_of(session, self._run, now, partial(self._is_free, now))

        return await self._database.read(read)

    async def wishes(self) -> Wishes:
        """One look at what is wanted; cheap enough to be taken twice a second."""

        def read(session: Session) -> Wishes:
            run = session.get_one(RunRow, self._run)
            alive, dead = self.workers.count(session, self._now(session))
            return Wishes(run.revision, run.wish, run.limits, alive, dead > 0)

        return await self._database.read(read)

    async def bury(self) -> None:
        """Free what dead workers had: whoever has nothing to take would never find out."""

        def write(session: Session) -> None:
            self.workers.bury(session, self._now(session))

        await self._database.write(write)

    async def take(self, tickets: Sequence[str], most: int, in_all: int | None = None) -> tuple[str, ...]:
        """Claim up to `most` of `tickets`, in this order, of those that are free now; which ones. `in_all`: so many may
        be worked on at once, by whomever."""

        def write(session: Session) -> dict[str, int]:
            if in_all is not None:
                # Before all else, as in `begin`: no other worker takes one before the transaction has ended.
                session.get_one(RunRow, self._run, with_for_update=True)
            now, taken = self._now(session), dict[str, int]()
            self.workers.bury(session, now)
            room = most if in_all is None else min(most, in_all - self._claimed(session, now))
            for row in self._free(session, tickets, now):
                if len(taken) >= room:
                    break
                row.holder, row.generation = self.worker, row.generation + 1
                row.lease_ends, row.machine = now + self._lease_s, machine()
                session.add(row)
                taken[row.ticket] = row.generation
            return taken

        taken = await self._database.write(write)
        self.held.update(taken)
        return tuple(taken)

    async def renew(self, worked_s: Mapping[str, float]) -> frozenset[str]:
        """A sign of life of this worker and of all that it has; `worked_s` by ticket. Which tickets were lost."""
        held = dict(self.held)

        def write(session: Session) -> set[str]:
            now = self._now(session)
            self.workers.seen(session, now)
            kept = set()
            for row in self._held(session, held):
                row.lease_ends, row.worked_s = now + self._lease_s, worked_s.get(row.ticket, row.worked_s)
                session.add(row)
                kept.add(row.ticket)
            return kept

        asked_at = _since_boot()
        kept = await self._database.write(write)
        self._alive_at = asked_at
        lost = frozenset(held) - kept
        for ticket in lost:
            self.held.pop(ticket, None)
        return lost

    async def give_back(
        self, ticket: str, *, worked_s: float, wait_s: float = 0.0, fault: bool = False, reason: str | None = None
    ) -> None:
        """Let go of a ticket, which is not to be tried for `wait_s`. `fault`: the environment broke its step off, and
        that is counted."""
        generation = self.held.pop(ticket, None)

        def write(session: Session) -> None:
            for row in self._held(session, {ticket: generation} if generation is not None else {}):
                row.holder, row.lease_ends, row.worked_s = None, None, worked_s
                row.not_before = self._now(session) + wait_s if wait_s else 0.0
                row.faults += fault
                if reason is not None:
                    row.reason = reason
                session.add(row)

        await self._database.write(write)

    def forget(self, ticket: str) -> None:
        """The ticket has ended, or is somebody else's: there is nothing to give back."""
        self.held.pop(ticket, None)

    async def explain(self, reasons: Mapping[str, str]) -> None:
        """Store why tickets are not worked on, for those that nobody has."""

        def write(session: Session) -> None:
            for row in self._rows(session, reasons):
                if row.holder is None and row.state not in FINAL_STATES:
                    row.reason = reasons[row.ticket]
                    session.add(row)

        await self._database.write(write)

    def fence(self, session: Session, ticket: str) -> None:
        """Lock the ticket in a writer's transaction; LeaseLost where somebody else has it, or had it since."""
        # What other writes of this transaction left to be written may be a claim.
        session.flush()
        found = session.connection().execute(_HELD_BY, {"of_run": self._run, "of_ticket": ticket}).first()
        if found is not None:
            self.compare(ticket, *found)

    def _free(self, session: Session, tickets: Sequence[str], now: float) -> Iterable[AgentRow]:
        # Rows that another worker is just changing are left to it, where the database can tell.
        rows = {row.ticket: row for row in self._rows(session, tickets, skip_locked=True)}
        for ticket in tickets:
            row = rows.get(ticket)
            if row is None or row.wish or row.state in FINAL_STATES or waits(row.not_before, now):
                continue
            if self._is_free(now, row.ticket, row.holder, row.lease_ends):
                yield row

    def _claimed(self, session: Session, now: float) -> int:
        """How many tickets somebody works on."""
        query = select(func.count()).where(
            AgentRow.run == self._run,
            col(AgentRow.holder).is_not(None),
            col(AgentRow.lease_ends) >= now,
            col(AgentRow.state).not_in(FINAL_STATES),
        )
        return session.exec(query).one()

    def _is_free(self, now: float, ticket: str, holder: str | None, lease_ends: float | None) -> bool:
        if holder == self.worker:
            # Lost here, for want of a sign of life, and nobody has taken it since.
            return ticket not in self.held
        return holder is None or (lease_ends or 0.0) < now

    def _held(self, session: Session, held: Mapping[str, int]) -> list[AgentRow]:
        return [
            row for row in self._rows(session, held) if row.holder == self.worker and row.generation == held[row.ticket]
        ]

    def _rows(self, session: Session, tickets: Iterable[str], *, skip_locked: bool = False) -> Sequence[AgentRow]:
        """The rows of these tickets, locked, as they are now."""
        wanted = list(tickets)
        if not wanted:
            return ()
        query = select(AgentRow).where(AgentRow.run == self._run, col(AgentRow.ticket).in_(wanted))
        # In one order, so that no two writers wait for each other; what this session has read before may be old.
        locked = query.order_by(AgentRow.ticket).with_for_update(skip_locked=skip_locked)
        return session.exec(locked.execution_options(populate_existing=True)).all()


async def as_it_is(database: Database, run: RunRow) -> RunRow:
    """The run; one whose process was killed could not say that it was interrupted."""
    if run.state == "running" and not await Claims(database, run.id).others():
        run.state = "interrupted"
    return run


def _since_boot() -> float:
    """Seconds that no setting of the clock changes and, where the system tells them, no sleep of the machine stops."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()
