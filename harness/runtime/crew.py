"""The crew of a run: everybody who takes part, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.settings import Project
from sandbox.driver import Driver

if TYPE_CHECKING:
    from harness.engine.supervisor import Supervisor
    from harness.repository import Repository
    from harness.store.database import Database
    from harness.store.journal import StoreJournal
    from harness.store.tables import RunRow
    from tasks.backlog import Backlog


@asynccontextmanager
async def crew(
    project: Project,
    row: RunRow,
    repository: Repository,
    database: Database,
    driver: Driver,
    journal: StoreJournal,
    backlog: Backlog,
    *,
    agents: int | None,
) -> AsyncIterator[Supervisor]:
    """The supervisor of a run, with everything that it needs behind it."""
    from graphs.loop import build_loop
    from graphs.ports import Ports
    from harness.agents.factory import build_agent
    from harness.engine.budget import Budget
    from harness.engine.supervisor import Supervisor
    from harness.engine.throttle import ThrottledValidator, TrackedWorkspaces
    from harness.repository import Worktrees
    from harness.store.checkpoints import open_checkpoints
    from harness.store.documents import BaselineResults, Messages, Verdicts
    from harness.store.effects import StoreEffects
    from harness.submission import BranchSubmitter
    from harness.validation import LoopValidator

    settings, folder = project.settings, project.state / "runs" / row.id
    limits = settings.limits
    async with AsyncExitStack() as stack:
        validator = await stack.enter_async_context(
            LoopValidator(
                driver,
                repository,
                project.state,
                BaselineResults(database),
                Verdicts(database),
                keep_verified=settings.submit.keep_sandbox,
            )
        )
        agent = await stack.enter_async_context(
            build_agent(
                settings.agent,
                driver=driver,
                meter=Budget(
                    run_usd=limits.budget_usd, ticket_usd=limits.ticket_budget_usd, model_calls=limits.model_calls
                ),
                journal=journal,
                transcripts=project.state / "transcripts",
                repo_root=project.root,
                state=project.state,
                entry=settings.baseline.entry,
                diagnostics=validator.diagnose,
                readable=_links(project),
                base_url=await stack.enter_async_context(_model_url(project, backlog)),
            )
        )
        workspaces = TrackedWorkspaces(Worktrees(repository, project.state / "worktrees", row.base))
        ports = Ports(
            workspaces=workspaces,
            agent=agent,
            validator=ThrottledValidator(validator, forks=limits.forks, checks=limits.checks),
            submitter=BranchSubmitter(repository, Verdicts(database), StoreEffects(database), project.state),
            journal=journal,
            messages=Messages(database),
            tickets={ticket.id: ticket for ticket in backlog},
            max_iterations=settings.agent.max_iterations,
        )
        yield Supervisor(
            run=row.id,
            loop=build_loop(await stack.enter_async_context(open_checkpoints(project.state / "checkpoints.db"))),
            ports=ports,
            workspaces=workspaces,
            driver=driver,
            agents=agents or limits.agents,
            ticket_s=limits.ticket_minutes * 60,
            ttl_s=settings.baseline.ttl,
            on_crash=lambda ticket, trace: _note_crash(folder, ticket, trace),
        )


@asynccontextmanager
async def _model_url(project: Project, backlog: Backlog) -> AsyncIterator[str | None]:
    """Where the model is reached: None is for the SDK to find out."""
    if project.settings.agent.kind != "rehearsal":
        yield None
        return
    from harness.agents.rehearsal.server import serve_rehearsal

    copies = {ticket.id: ticket.origin for ticket in backlog}
    async with serve_rehearsal(project.root / project.settings.agent.recordings, copies=copies) as url:
        yield url


def _links(project: Project) -> tuple[Path, ...]:
    services = project.settings.baseline.services.values()
    return tuple(sorted({project.root / name for service in services for name in service.link}))


def _note_crash(folder: Path, ticket: str, trace: str) -> None:
    # A trace that cannot be kept must not end the other tickets.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "crashes.log").open("a", encoding="utf-8") as log:
            log.write(f"ticket {ticket}\n{trace}\n")
