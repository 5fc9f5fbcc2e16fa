"""A run: the backlog of a base commit, worked by a crew until every ticket has ended."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.runtime.connections import Narrator, baseline_of, connected, opened_store, project_at
from harness.runtime.recordings import record_run, refuse_existing
from harness.settings import Project
from tasks.errors import CheckoutError, EnvironmentFault
from tasks.events import Event

if TYPE_CHECKING:
    from harness.engine.supervisor import Ending
    from harness.repository import Repository
    from harness.store.tables import AgentRow, RunRow
    from tasks.backlog import Backlog

Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the user said of one run, beside the settings."""

    tickets: tuple[str, ...] = ()
    """Ids; none: the whole backlog."""
    agents: int | None = None
    copies: int | None = None
    """Multiply the backlog to so many tickets."""
    rev: str = "HEAD"
    record: Path | None = None
    """Folder for recordings of what the agents did."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    run: str
    tickets: Mapping[str, int]
    """How many ended in each final state."""
    agents: tuple[AgentRow, ...]
    cost_usd: float
    seconds: float
    exit_code: int

    def to_json(self) -> dict[str, Any]:
        """The last line of `run --json`."""
        return {
            "event": "run.finished",
            "run": self.run,
            "tickets": dict(self.tickets),
            "cost_usd": round(self.cost_usd, 6),
            "seconds": round(self.seconds, 3),
        }


async def run_backlog(project: Project, options: RunOptions, listen: Listener, narrate: Narrator) -> RunResult:
    """Work the backlog to its end. Raises SpurlineError where it could not begin; cancelled, it lets go of all."""
    from harness.repository import Repository
    from harness.runtime.crew import crew
    from harness.store.journal import StoreJournal
    from harness.store.runs import Runs, tally

    repository = await Repository.open(project.root)
    base = await repository.resolve(options.rev)
    project = await project_at(project, repository, base)
    backlog = await _backlog(project, options, repository, base, narrate)
    if options.record is not None:
        refuse_existing(options.record, backlog)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened_store(project))
        driver = await stack.enter_async_context(connected(project))
        await stack.enter_async_context(baseline_of(project, driver, base, narrate))
        runs, row = Runs(database), _row(project, base, len(backlog))
        journal = StoreJournal(database, row.id)
        journal.listen(listen)
        await runs.begin(row, backlog.tickets)
        journal.emit("run.started", None, {"base": base, "tickets": [ticket.id for ticket in backlog]})
        state, recorded = "interrupted", True
        try:
            async with crew(
                project, row, repository, database, driver, journal, backlog, agents=options.agents
            ) as supervisor:
                endings = await supervisor.work(backlog.tickets)
            state = "finished"
        finally:
            await runs.end(row.id, state)
            agents = await runs.agents(row.id)
            if options.record is not None:
                # A run that broke off was paid for as well: what had ended is kept.
                recorded = await record_run(project, agents, options.record, narrate)
        return RunResult(
            run=row.id,
            tickets=tally(agents),
            agents=agents,
            cost_usd=sum(agent.cost_usd for agent in agents),
            seconds=time.time() - row.started_at,
            exit_code=_exit_code(endings) if recorded else EnvironmentFault.exit_code,
        )


async def _backlog(
    project: Project, options: RunOptions, repository: Repository, base: str, narrate: Narrator
) -> Backlog:
    """The tickets to be worked. CheckoutError for one that the base commit does not hold as it stands."""
    backlog = project.backlog()
    project.checks()
    if options.tickets:
        backlog = backlog.only(options.tickets)
    dirty, files = await repository.dirty(), set(await repository.files(base))
    for ticket in backlog:
        assert ticket.source is not None
        path = ticket.source.relative_to(project.root).as_posix()
        if path in dirty or path not in files:
            raise CheckoutError(
                f"the ticket {path} is not in commit {base[:12]} as it stands in the work tree",
                hint="tickets hold checks that judge, so they are read from the commit: commit them first",
            )
    if dirty:
        narrate(f"not committed, so not part of this run: {', '.join(dirty[:5])}{' …' if len(dirty) > 5 else ''}")
    return backlog if options.copies is None else backlog.multiplied(options.copies)


def _row(project: Project, base: str, tickets: int) -> RunRow:
    from harness.store.documents import sorted_json
    from harness.store.tables import RunRow

    return RunRow(
        id=f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}",
        project=project.settings.project,
        base=base,
        state="running",
        settings_digest=project.settings.digest(),
        settings=sorted_json(project.settings.model_dump(mode="json", by_alias=True)),
        spurline=version("spurline"),
        tickets=tickets,
        started_at=time.time(),
    )


def _exit_code(endings: tuple[Ending, ...]) -> int:
    if any(ending.environment for ending in endings):
        return 3
    return 0 if all(ending.state == "verified" for ending in endings) else 1
