"""Runs and their agents, as rows: begun, ended, listed, shown."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast

from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from harness.store.database import Database
from harness.store.tables import AgentRow, AttemptRow, EventRow, RunRow, WorkerRow
from tasks.errors import UsageError
from tasks.events import Event, EventKind
from tasks.states import FINAL_STATES, is_final
from tasks.ticket import Ticket

WAITS: Final = "waits for a free agent"
"""Why a ticket is queued that nothing holds."""


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
            agents = {agent.ticket: agent for agent in session.exec(_agents(run))}
            _refuse(row, wish, tickets, agents)
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
            agents = session.exec(select(AgentRow.ticket).where(AgentRow.run == run)).all()
            _refuse(session.get_one(RunRow, run), wish, tickets, agents)

        await self._database.read(read)

    async def retry(self, run: str, tickets: Sequence[str] = ()) -> tuple[str, ...]:
        """Queue tickets again that ended without being verified: all of them, or those named. What the attempts before
        said and cost is kept. Which ones; UsageError for one that cannot be retried."""

        def write(session: Session) -> tuple[str, ...]:
            row = session.get_one(RunRow, run, with_for_update=True)
            agents = {agent.ticket: agent for agent in session.exec(_agents(run))}
            _known(run, tickets, agents)
            for ticket in tickets:
                if not is_final(agents[ticket].state) or agents[ticket].state == "verified":
                    raise UsageError(f"{ticket!r} is {agents[ticket].state}: only what ended otherwise is retried")
            if row.wish == "cancelled":
                # The wish goes on for what has yet to end by it.
                for agent in agents.values():
                    agent.wish = "" if is_final(agent.state) else row.wish
                row.wish = ""
            ended = [agent for agent in agents.values() if is_final(agent.state) and agent.state != "verified"]
            again = [agents[ticket] for ticket in tickets] or ended
            for agent in again:
                session.add(_attempt(agent))
                session.add(_begun_anew(agent))
                session.add(_queued(agent))
            row.revision += 1
            session.add(row)
            return tuple(agent.ticket for agent in again)

        return await self._database.write(write)

    async def worked_s(self, run: RunRow) -> float:
        """For how long anybody has worked on the run: what lies between two that took it up does not count."""
        query = select(WorkerRow.born, WorkerRow.seen_at).where(WorkerRow.run == run.id).order_by(col(WorkerRow.born))
        worked_s, until = 0.0, run.started_at
        for born, seen_at in await self._database.read(lambda session: tuple(session.exec(query))):
            worked_s += max(0.0, seen_at - max(born, until))
            until = max(until, seen_at)
        return worked_s

    async def limit(self, run: str, limits: Mapping[str, int]) -> None:
        """Change limits of the run while it goes on."""

        def write(session: Session) -> None:
            row = session.get_one(RunRow, run, with_for_update=True)
            row.limits, row.revision = json.dumps({**json.loads(row.limits), **limits}), row.revision + 1
            session.add(row)

        await self._database.write(write)

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
            raise _unknown(run, ticket)
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


def _agents(run: str) -> SelectOfScalar[AgentRow]:
    """All agents of the run, locked, as they are now."""
    query = select(AgentRow).where(AgentRow.run == run).order_by(AgentRow.ticket).with_for_update()
    return query.execution_options(populate_existing=True)


def _refuse(run: RunRow, wish: str, tickets: Sequence[str], agents: Collection[str]) -> None:
    _known(run.id, tickets, agents)
    if run.wish == "cancelled" and wish != "cancelled":
        raise UsageError(f"run {run.id} was cancelled", hint="`spurline runs retry` queues its tickets again")


def _known(run: str, tickets: Sequence[str], agents: Collection[str]) -> None:
    for ticket in tickets:
        if ticket not in agents:
            raise _unknown(run, ticket)


def _unknown(run: str, ticket: str) -> UsageError:
    return UsageError(f"run {run} has no ticket {ticket!r}", hint=f"`spurline runs show {run}` lists them")


def _attempt(agent: AgentRow) -> AttemptRow:
    return AttemptRow(
        run=agent.run,
        ticket=agent.ticket,
        attempt=agent.attempt,
        state=agent.state,
        reason=agent.reason,
        model_calls=agent.model_calls,
        tokens=agent.counted_tokens,
        cost_usd=agent.cost_usd,
        document=json.dumps(agent_json(agent)),
    )


def _begun_anew(agent: AgentRow) -> AgentRow:
    """The row of the next attempt."""
    fresh = AgentRow(run=agent.run, ticket=agent.ticket, place=agent.place, title=agent.title, state="queued")
    for name in AgentRow.model_fields:
        if name not in ("run", "ticket", "place", "title", "attempt", "generation"):
            setattr(agent, name, getattr(fresh, name))
    agent.attempt += 1
    agent.reason = WAITS
    return agent


def _queued(agent: AgentRow) -> EventRow:
    data = {"state": "queued", "reason": "retried", "attempt": agent.attempt}
    return EventRow(run=agent.run, ticket=agent.ticket, kind="agent.state", at=time.time(), data=json.dumps(data))


def tally(agents: Sequence[AgentRow]) -> dict[str, int]:
    """How many agents ended in each final state."""
    return {state: sum(agent.state == state for agent in agents) for state in FINAL_STATES}


def agent_json(row: AgentRow) -> dict[str, Any]:
    """One entry of `agents` in `runs show --json`."""
    ended = row.ended_at or time.time()
    return {
        "ticket": row.ticket,
        "title": row.title,
        "state": row.state,
        "reason": row.reason,
        "attempt": row.attempt,
        "iterations": row.iterations,
        "sandbox": row.sandbox,
        "branch": row.branch,
        "commit": row.commit,
        "verdict": row.verdict,
        "submission": row.submission,
        "tokens": {
            "input": row.input_tokens,
            "output": row.output_tokens,
            "cache_read": row.cache_read_tokens,
            "cache_write": row.cache_write_tokens,
        },
        "model_calls": row.model_calls,
        "failed_verdicts": row.failed_verdicts,
        "faults": row.faults,
        "nudges": row.nudges,
        "cost_usd": round(row.cost_usd, 6),
        "seconds": round(ended - row.started_at, 3) if row.started_at is not None else 0.0,
    }
