"""Runs and their agents, as rows: begun, ended, listed, shown."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import cast

from sqlmodel import Session, col, select

from harness.limits import checked
from harness.store.agents import WAITS, agents_of, ensure_known, unknown
from harness.store.attempts import RETRIED, queue_again, to_retry
from harness.store.database import Database
from harness.store.notes import worded
from harness.store.tables import AgentRow, AttemptRow, EventRow, RunRow, WorkerRow
from tasks.errors import UsageError
from tasks.events import Event, EventKind
from tasks.states import FINAL_STATES, is_final
from tasks.ticket import Ticket


class Runs:
    """All runs of one project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, run: RunRow, tickets: Sequence[Ticket]) -> None:
        """Note the run and its agents, all queued, in one transaction."""

        def write(session: Session) -> None:
            session.add(RunRow(**run.model_dump()))
            session.flush()
            for place, ticket in enumerate(tickets):
                row = AgentRow(run=run.id, ticket=ticket.id, place=place, title=ticket.title, state="queued")
                row.reason = WAITS
                session.add(row)

        await self._database.write(write)

    async def end(self, run: str, state: str) -> None:
        """Note how the run ended, or broke off."""

        def write(session: Session) -> None:
            row = session.get_one(RunRow, run, with_for_update=True)
            row.state, row.ended_at = state, time.time()
            session.add(row)

        await self._database.write(write)

    async def reopen(
        self, run: str, *, settings: str | None = None, digest: str = "", options: str | None = None
    ) -> None:
        """Note that the run goes on, with these settings and options where they are given."""

        def write(session: Session) -> None:
            row = session.get_one(RunRow, run, with_for_update=True)
            row.state, row.ended_at = "running", None
            if settings is not None:
                row.settings, row.settings_digest = settings, digest
            row.options = options or row.options
            session.add(row)

        await self._database.write(write)

    async def wish(self, run: str, wish: str, tickets: Sequence[str] = ()) -> int:
        """What the user wants of the run, or of some of its tickets; how many of those had not ended. To wish nothing
        (``) takes a pause back. UsageError for a ticket that the run does not have, or a run that was cancelled."""

        def write(session: Session) -> int:
            row = session.get_one(RunRow, run, with_for_update=True)
            agents = agents_of(session, run, tickets)
            _refuse(row, wish)
            concerned = [agents[ticket] for ticket in tickets or agents if not is_final(agents[ticket].state)]
            for agent in concerned if tickets or not wish else ():
                # To be cancelled is for good, also where nobody has come to it yet.
                if agent.wish != "cancelled":
                    agent.wish = wish
                    session.add(agent)
            if not tickets and (concerned or not wish):
                row.wish = wish
            elif tickets and not wish and row.wish:
                # The pause of the run goes on for all others.
                for name, agent in agents.items():
                    if name not in tickets and not agent.wish and not is_final(agent.state):
                        agent.wish = row.wish
                row.wish = ""
            row.revision += 1
            session.add(row)
            return len(concerned)

        return await self._database.write(write)

    async def refuse(self, run: str, wish: str, tickets: Sequence[str] = ()) -> None:
        """UsageError where `wish` would raise it: before anything is started."""

        def read(session: Session) -> None:
            ensure_known(run, tickets, session.exec(select(AgentRow.ticket).where(AgentRow.run == run)).all())
            _refuse(session.get_one(RunRow, run), wish)

        await self._database.read(read)

    async def retry(
        self, run: str, tickets: Sequence[str] = (), *, carry_on: bool = False, note: str | None = None
    ) -> tuple[str, ...]:
        """Queue tickets again that ended without being verified: all of them, or those named. What the attempts before
        said and cost is kept; to `carry_on` is to go on from where they ended, else each begins anew. The agents hear
        the `note`. Which ones; UsageError for one that cannot be retried."""
        words = None if note is None else worded(note)

        def write(session: Session) -> tuple[str, ...]:
            again = to_retry(session, run, tickets, "only what ended otherwise is retried", RETRIED)
            queue_again(session, again, carry_on=carry_on, note=words)
            return tuple(agent.ticket for agent in again)

        return await self._database.write(write)

    async def answer(self, run: str, tickets: Sequence[str], text: str) -> None:
        """Answer agents that asked a human: each carries on with the answer. UsageError for one that did not ask."""
        words = worded(text)

        def write(session: Session) -> None:
            asked = to_retry(session, run, tickets, "only who asked a human is answered", {"needs_human"})
            queue_again(session, asked, carry_on=True, note=words)

        await self._database.write(write)

    async def worked_s(self, run: RunRow) -> float:
        """For how long anybody has worked on the run: what lies between two that took it up does not count."""
        query = select(WorkerRow.began_at, WorkerRow.seen_at).where(WorkerRow.run == run.id)
        in_turn = query.order_by(col(WorkerRow.began_at))
        worked_s = until = 0.0
        for began_at, seen_at in await self._database.read(lambda session: tuple(session.exec(in_turn))):
            worked_s += max(0.0, seen_at - max(began_at, until))
            until = max(until, seen_at)
        return worked_s

    async def limit(self, run: str, limits: Mapping[str, float], tickets: Sequence[str] = ()) -> None:
        """Change limits of the run while it goes on, or budgets of single tickets of it, also of those that have ended.
        UsageError for what is none, and for a ticket that the run does not have."""
        said = checked(limits, single=bool(tickets))

        def write(session: Session) -> None:
            row = session.get_one(RunRow, run, with_for_update=True)
            agents = agents_of(session, run, tickets) if tickets else {}
            concerned: list[AgentRow | RunRow] = [agents[ticket] for ticket in tickets]
            for changed in concerned or [row]:
                changed.limits = json.dumps({**json.loads(changed.limits), **said})
                session.add(changed)
            row.revision += 1
            session.add(row)

        await self._database.write(write)

    async def keep(self, run: str, tickets: Sequence[str], until: float) -> tuple[AgentRow, ...]:
        """Have the sandboxes of these tickets live until then at least, when the tickets have ended; the agents.
        UsageError for a ticket that the run does not have."""

        def write(session: Session) -> tuple[AgentRow, ...]:
            agents = agents_of(session, run, tickets)
            concerned = [agents[ticket] for ticket in dict.fromkeys(tickets)]
            for agent in concerned:
                agent.keep_until = max(until, agent.keep_until or 0.0)
                session.add(agent)
            session.flush()
            return tuple(AgentRow(**agent.model_dump()) for agent in concerned)

        return await self._database.write(write)

    async def attempts(self, run: str) -> tuple[AttemptRow, ...]:
        """The attempts that were followed by another one, oldest first."""
        query = select(AttemptRow).where(AttemptRow.run == run).order_by(AttemptRow.ticket, col(AttemptRow.attempt))
        return await self._database.read(lambda session: tuple(session.exec(query)))

    async def list(self) -> tuple[RunRow, ...]:
        """All runs, the newest first."""
        order = col(RunRow.started_at).desc()
        return await self._database.read(lambda session: tuple(session.exec(select(RunRow).order_by(order))))

    async def find(self, run: str) -> RunRow:
        """The run whose id is, or begins with, `run`; `last` is the newest. UsageError where there is none or more."""
        rows = await self.list()
        if run == "last" and rows:
            return rows[0]
        found = [row for row in rows if row.id == run] or [row for row in rows if row.id.startswith(run)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise UsageError(f"there is no run {run!r}", hint="`spurline runs list` shows them")
        raise UsageError(f"{run!r} is the beginning of {len(found)} runs", hint=", ".join(row.id for row in found[:5]))

    async def agents(self, run: str) -> tuple[AgentRow, ...]:
        """The run's agents in the backlog's order."""
        query = select(AgentRow).where(AgentRow.run == run).order_by(col(AgentRow.place))
        return await self._database.read(lambda session: tuple(session.exec(query)))

    async def agent(self, run: str, ticket: str) -> AgentRow:
        """The agent of one ticket of the run. UsageError where the run has no such ticket."""
        found = await self._database.read(lambda session: session.get(AgentRow, (run, ticket)))
        if found is None:
            raise unknown(run, ticket)
        return found

    async def tickets(self, run: str) -> frozenset[str]:
        """Which tickets the run is about."""
        query = select(AgentRow.ticket).where(AgentRow.run == run)
        return await self._database.read(lambda session: frozenset(session.exec(query)))

    async def events(
        self, run: str, ticket: str | None = None, *, kinds: Collection[str] | None = None
    ) -> tuple[Event, ...]:
        """The run's story, oldest first; of one ticket, or of some kinds, where they are given."""
        columns = (col(EventRow.kind), col(EventRow.ticket), col(EventRow.data), col(EventRow.at))
        query = select(*columns).where(EventRow.run == run).order_by(col(EventRow.seq))
        if ticket is not None:
            query = query.where(EventRow.ticket == ticket)
        if kinds is not None:
            query = query.where(col(EventRow.kind).in_(kinds))
        rows = await self._database.read(lambda session: tuple(session.exec(query)))
        return tuple(Event(cast(EventKind, kind), run, of, json.loads(data), at) for kind, of, data, at in rows)

    async def last_event_at(self, run: str) -> float | None:
        """When the run was last heard of, in seconds since the epoch."""
        query = select(EventRow.at).where(EventRow.run == run).order_by(col(EventRow.seq).desc()).limit(1)
        return await self._database.read(lambda session: session.exec(query).first())


def _refuse(run: RunRow, wish: str) -> None:
    if run.wish == "cancelled" and wish != "cancelled":
        raise UsageError(f"run {run.id} was cancelled", hint="`spurline runs retry` queues its tickets again")


def tally(agents: Sequence[AgentRow]) -> dict[str, int]:
    """How many agents ended in each final state."""
    return {state: sum(agent.state == state for agent in agents) for state in FINAL_STATES}
