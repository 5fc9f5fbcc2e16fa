"""Runs and their agents, as rows: begun, ended, listed, shown."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, select

from harness.store.database import Database
from harness.store.tables import AgentRow, EventRow, RunRow
from tasks.errors import UsageError
from tasks.events import Event
from tasks.states import FINAL_STATES
from tasks.ticket import Ticket


class Runs:
    """All runs of one project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, run: RunRow, tickets: Sequence[Ticket]) -> None:
        """Note the run and its agents, all queued, in one transaction."""

        def write(session: Session) -> None:
            session.add(run)
            session.flush()
            for place, ticket in enumerate(tickets):
                row = AgentRow(run=run.id, ticket=ticket.id, place=place, title=ticket.title, state="queued")
                session.add(row)

        await self._database.write(write)

    async def end(self, run: str, state: str) -> None:
        def write(session: Session) -> None:
            row = session.get(RunRow, run)
            if row is not None:
                row.state, row.ended_at = state, time.time()
                session.add(row)

        await self._database.write(write)

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

    async def events(self, run: str, ticket: str | None = None) -> tuple[Event, ...]:
        """The run's story, oldest first."""
        query = select(EventRow).where(EventRow.run == run).order_by(col(EventRow.seq))
        if ticket is not None:
            query = query.where(EventRow.ticket == ticket)
        rows = await self._database.read(lambda session: tuple(session.exec(query)))
        return tuple(Event(row.kind, row.run, row.ticket, json.loads(row.data), row.at) for row in rows)  # type: ignore[arg-type]  # the column holds an EventKind


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
        "cost_usd": round(row.cost_usd, 6),
        "seconds": round(ended - row.started_at, 3) if row.started_at is not None else 0.0,
    }
