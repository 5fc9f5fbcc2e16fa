"""The crew of a run: everybody who takes part, put together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.limits import limits_of
from harness.project import Project
from harness.runtime.care import Care
from harness.runtime.connections import Narrator, store_place
from sandbox.driver import Driver
from tasks.events import Event

if TYPE_CHECKING:
    from harness.engine.breakers import Breaker
    from harness.engine.budget import Budget
    from harness.engine.supervisor import Supervisor
    from harness.repository import Repository
    from harness.store.claims import Claims
    from harness.store.database import Database
    from harness.store.journal import StoreJournal
    from harness.store.tables import AgentRow, RunRow
    from tasks.backlog import Backlog


@asynccontextmanager
async def crew(
    project: Project,
    row: RunRow,
    repository: Repository,
    database: Database,
    driver: Driver,
    claims: Claims,
    journal: StoreJournal,
    backlog: Backlog,
    narrate: Narrator,
    *,
    agents: int | None,
    own_agents: int | None,
) -> AsyncIterator[Supervisor]:
    """The supervisor of a run, with everything that it needs behind it. `agents` at once are the run's, where they are
    not as its settings say; `own_agents` are this worker's, whatever its part would be."""
    from graphs.loop import build_loop, owner
    from graphs.ports import Ports
    from harness.agents.factory import build_agent
    from harness.agents.meter import BROKEN
    from harness.engine.keeping import Keeping
    from harness.engine.limits import Limits
    from harness.engine.model_limits import ModelLimits
    from harness.engine.noticeboard import Noticeboard
    from harness.engine.sharing import share
    from harness.engine.supervisor import Supervisor
    from harness.engine.throttle import ThrottledDriver, ThrottledValidator, TrackedWorkspaces
    from harness.repository import Worktrees
    from harness.store.checkpoints import open_checkpoints
    from harness.store.documents import BaselineResults, Messages, Verdicts
    from harness.store.effects import StoreEffects
    from harness.store.notes import Notes
    from harness.store.purse import Purse
    from harness.store.runs import Runs
    from harness.submission import BranchSubmitter
    from harness.validation import LoopValidator

    settings, folder = project.settings, project.state / "runs" / row.id
    wanted = settings.limits
    said = {**limits_of(wanted, settings.agent), **({"agents": agents} if agents else {})}
    supervisor: Supervisor

    def before_call(ticket: str) -> None:
        supervisor.admit_call(ticket)

    def urgency(ticket: str) -> float:
        return supervisor.urgency(ticket)

    def pressure(ticket: str) -> float:
        return supervisor.pressure(ticket)

    def standing(ticket: str) -> AbstractContextManager[None]:
        return supervisor.standing(ticket)

    async with AsyncExitStack() as stack:
        budget, purse = await _budget(said, database, row), Purse(database, row.id, claims)
        await share(budget, purse)
        calls = ModelLimits(
            budget,
            model_calls=wanted.model_calls,
            priority=lambda ticket: -urgency(ticket),
            before_call=before_call,
            waited=lambda ticket, seconds: _note_wait(journal, backlog_ids, ticket, "model_calls", seconds),
            standing=standing,
            excused=lambda ticket, seconds: supervisor.excuse(ticket, seconds),
        )
        limits = Limits(
            said,
            own_agents=own_agents,
            changed_before=json.loads(row.limits),
            calls=calls,
            budget=budget,
            urgency=pressure,
            waited=lambda ticket, gate, seconds: _note_wait(journal, backlog_ids, ticket, gate, seconds),
            standing=standing,
            changed=lambda said: journal.emit("run.limits", None, said),
        )
        backlog_ids = frozenset(ticket.id for ticket in backlog)
        worktrees = Worktrees(repository, project.state / "worktrees", row.base, claims.generation)
        workspaces = TrackedWorkspaces(worktrees, standing)
        throttled = cast(Driver, ThrottledDriver(driver, limits.gates, workspaces, limits.ahead, standing))
        validator = await stack.enter_async_context(
            LoopValidator(
                throttled,
                repository,
                project.state,
                BaselineResults(database),
                Verdicts(database),
                turn=limits.gates["checks"].place,
            )
        )

        async def agent_of(ticket: str) -> AgentRow:
            agent = await Runs(database).agent(row.id, ticket)
            claims.compare(ticket, agent.generation, agent.holder)
            return agent

        noticeboard = Noticeboard(Notes(database), journal, row.id)
        agent = await stack.enter_async_context(
            build_agent(
                settings.agent,
                driver=driver,
                meter=calls,
                notes=noticeboard,
                claim=claims.generation,
                journal=journal,
                transcripts=project.state / "transcripts",
                repo_root=project.root,
                state=project.state,
                entry=settings.baseline.entry,
                diagnostics=validator.diagnose,
                readable=[project.root / link for link in project.links],
                base_url=await stack.enter_async_context(_model_url(project, backlog)),
            )
        )
        ports = Ports(
            workspaces=workspaces,
            agent=agent,
            validator=ThrottledValidator(
                Keeping(
                    validator,
                    agent_of,
                    leave=workspaces.leave,
                    verified_s=settings.baseline.ttl if settings.submit.keep_sandbox else 0.0,
                ),
                limits.gates["checks"],
            ),
            submitter=BranchSubmitter(repository, Verdicts(database), StoreEffects(database, claims), project.state),
            journal=journal,
            messages=Messages(database),
            tickets={ticket.id: ticket for ticket in backlog},
            caps=limits.rounds,
        )
        care = Care(project, driver, row.base, narrate, ours=workspaces.sandboxes)
        breakers = await stack.enter_async_context(_breakers(care, journal))
        place = store_place(project, "checkpoints.db")
        positions = open_checkpoints(place, lambda thread: claims.ensure(owner(thread)))

        async def taken_up(ticket: str) -> None:
            await asyncio.gather(_recount(budget, database, row, ticket), noticeboard.take_up(ticket))

        supervisor = Supervisor(
            run=row.id,
            loop=build_loop(await stack.enter_async_context(positions)),
            ports=ports,
            claims=claims,
            workspaces=workspaces,
            driver=driver,
            limits=limits,
            breakers=breakers,
            taken_up=taken_up,
            wished=noticeboard.read,
            rest=budget.rest,
            recheck=calls.recheck,
            share=lambda: share(budget, purse),
            short=lambda: budget.asks,
            faults=wanted.ticket_faults,
            hold_s=wanted.hold_minutes * 60,
            ttl_s=settings.baseline.ttl,
            on_crash=lambda ticket, trace: _note_crash(folder, ticket, trace),
        )

        def heed(event: Event) -> None:
            if event.kind == "agent.state" and event.ticket is not None:
                supervisor.noted(event.ticket, event.data["state"], event.data.get("iterations"))
            elif event.kind == "model.call" and event.ticket is not None and event.data["stop_reason"] != BROKEN:
                supervisor.answered(event.ticket)

        journal.listen(heed)
        journal.emit("run.limits", None, said)
        yield supervisor


def _note_wait(journal: StoreJournal, tickets: frozenset[str], ticket: str, gate: str, seconds: float) -> None:
    # A sandbox of the baseline's own checks is no ticket's.
    of = ticket if ticket in tickets else None
    journal.emit("agent.waited", of, {"for": gate, "seconds": round(seconds, 3)})


@asynccontextmanager
async def _breakers(care: Care, journal: StoreJournal) -> AsyncIterator[Mapping[str, Breaker]]:
    from harness.engine.breakers import Breaker

    def told(name: str, reason: str | None, seconds: float) -> None:
        if reason is None:
            journal.emit("fleet.free", None, {"by": name, "seconds": round(seconds, 3)})
        else:
            journal.emit("fleet.held", None, {"by": name, "reason": reason})

    breakers = {"baseline": Breaker("baseline", told, probe=care.probe), "model": Breaker("model", told)}
    try:
        yield breakers
    finally:
        await asyncio.gather(*(breaker.aclose() for breaker in breakers.values()))


async def _budget(said: Mapping[str, float], database: Database, row: RunRow) -> Budget:
    """The run's budget, less what was spent before this process."""
    from harness.engine.allowance import run_caps, ticket_caps
    from harness.engine.budget import Budget, spent_in
    from harness.store.runs import Runs

    runs = Runs(database)
    return Budget(
        run=run_caps(said),
        ticket=ticket_caps(said),
        spent={agent.ticket: spent_in(agent) for agent in await runs.agents(row.id)},
        seconds=await runs.worked_s(row),
    )


async def _recount(budget: Budget, database: Database, row: RunRow, ticket: str) -> None:
    """Take over what the attempt of the ticket has used, whoever worked on it."""
    from harness.engine.budget import spent_in
    from harness.store.runs import Runs

    budget.taken_up(ticket, spent_in(await Runs(database).agent(row.id, ticket)))


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


def _note_crash(folder: Path, ticket: str, trace: str) -> None:
    # A trace that cannot be kept must not end the other tickets.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "crashes.log").open("a", encoding="utf-8") as log:
            log.write(f"ticket {ticket}\n{trace}\n")
