"""Rows of real runs, written down once, for tests of what is made out of them.

python tests/recorded_runs.py DATABASE RUN FILE      # writes the run and the one before it, as they lie in the store
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.report import Report, build
from harness.report.facts import KINDS, last_verdicts
from harness.report.proof import proof_of
from harness.store.database import Database
from harness.store.documents import Verdicts
from harness.store.runs import Runs
from harness.store.tables import AgentRow, RunRow
from tasks.events import Event


@dataclass(frozen=True)
class Recorded:
    """One run, the one before it, and the documents of the verdicts that say most."""

    run: RunRow
    agents: tuple[AgentRow, ...]
    events: tuple[Event, ...]
    documents: dict[str, dict[str, Any]]
    """By ticket."""
    earlier: tuple[RunRow, tuple[AgentRow, ...]] | None

    def report(self) -> Report:
        proofs = {ticket: proof_of(str(one["id"]), one["document"]) for ticket, one in self.documents.items()}
        return build(self.run, self.agents, self.events, proofs, earlier=self.earlier)


def read(path: Path) -> Recorded:
    """What `record` wrote."""
    data = json.loads(path.read_text())
    before = data["earlier"]
    return Recorded(
        run=RunRow(**data["run"]),
        agents=tuple(AgentRow(**row) for row in data["agents"]),
        events=tuple(Event(kind, run, ticket, found, at) for kind, run, ticket, found, at in data["events"]),
        documents=data["documents"],
        earlier=before and (RunRow(**before["run"]), tuple(AgentRow(**row) for row in before["agents"])),
    )


def multiplied(recorded: Recorded, tickets: int, *, slots: int) -> Recorded:
    """The run as if its backlog were copied to so many tickets and worked in waves of `slots`: made up, for size."""
    size, length = len(recorded.agents), (recorded.run.ended_at or 0.0) - recorded.run.started_at
    events: list[Event] = [event for event in recorded.events if event.ticket is None]
    agents: list[AgentRow] = []
    documents: dict[str, dict[str, Any]] = {}
    of_ticket = {
        row.ticket: [event for event in recorded.events if event.ticket == row.ticket] for row in recorded.agents
    }
    for place in range(tickets):
        row, later = recorded.agents[place % size], place // slots * length
        name = f"{row.ticket}-{place}"
        moved = {"started_at": (row.started_at or 0.0) + later, "ended_at": (row.ended_at or 0.0) + later}
        agents.append(AgentRow(**{**row.model_dump(), "ticket": name, "place": place, **moved}))
        events += [replace(event, ticket=name, at=event.at + later) for event in of_ticket[row.ticket]]
        if row.ticket in recorded.documents:
            documents[name] = recorded.documents[row.ticket]
    ended = max(event.at for event in events)
    settings = {"limits": {"agents": slots}}
    run = RunRow(
        **{**recorded.run.model_dump(), "ended_at": ended, "tickets": tickets, "settings": json.dumps(settings)}
    )
    return Recorded(run, tuple(agents), tuple(sorted(events, key=lambda event: event.at)), documents, None)


async def record(database: Database, name: str) -> dict[str, Any]:
    """The run and the one that began before it, as plain JSON."""
    runs = Runs(database)
    run = await runs.find(name)
    agents, events = await runs.agents(run.id), await runs.events(run.id, kinds=KINDS)
    documents = {
        ticket: {"id": verdict, "document": await Verdicts(database).load(verdict)}
        for ticket, verdict in last_verdicts(agents, events).items()
    }
    older = next((row for row in await runs.list() if row.started_at < run.started_at), None)
    return {
        "run": run.model_dump(),
        "agents": [agent.model_dump() for agent in agents],
        "events": [[event.kind, event.run, event.ticket, event.data, event.at] for event in events],
        "documents": documents,
        "earlier": older
        and {"run": older.model_dump(), "agents": [row.model_dump() for row in await runs.agents(older.id)]},
    }


async def main(path: str, name: str, target: str) -> None:
    async with Database(Path(path)) as database:
        found = await record(database, name)
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in found.items()]
    Path(target).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
