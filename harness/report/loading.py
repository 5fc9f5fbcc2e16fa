"""A report out of the store."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.changes import same_backlog
from harness.report.facts import KINDS, build, last_verdicts
from harness.report.proof import proof_of
from harness.report.values import Proof, Report
from harness.store.claims import as_it_is
from harness.store.database import Database
from harness.store.documents import Verdicts
from harness.store.runs import Runs
from harness.store.tables import AgentRow, RunRow


async def load_report(database: Database, name: str) -> Report:
    """The report of the run that `name` means (see `Runs.find`). Raises UsageError, StoreError."""
    runs = Runs(database)
    row = await as_it_is(database, await runs.find(name))
    agents = await runs.agents(row.id)
    events = await runs.events(row.id, kinds=KINDS)
    wanted = last_verdicts(agents, events)
    owners = {verdict: ticket for ticket, verdict in wanted.items()}
    proofs: dict[str, Proof] = {}
    async for verdict, document in Verdicts(database).load_all(owners):
        proofs[owners[verdict]] = proof_of(verdict, document)
    return build(
        row,
        agents,
        events,
        proofs,
        last_event_at=await runs.last_event_at(row.id),
        earlier=await _earlier(runs, row, agents),
    )


async def _earlier(runs: Runs, run: RunRow, agents: Sequence[AgentRow]) -> tuple[RunRow, Sequence[AgentRow]] | None:
    """The last run of the same backlog before this one, and its agents; one that finished where there is one."""
    tickets = [agent.ticket for agent in agents]
    older = [row for row in await runs.list() if row.project == run.project and row.started_at < run.started_at]
    for row in sorted(older, key=lambda row: row.state != "finished"):
        if same_backlog(tickets, await runs.tickets(row.id)):
            return row, await runs.agents(row.id)
    return None
