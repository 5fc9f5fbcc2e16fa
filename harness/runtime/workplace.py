"""The place that a run is worked in: all that outlives who works on it. A run that begins makes it, one that was begun
earlier is found with it; what is done there is the same.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.project import Project
from harness.runtime.choosing import chosen_before
from harness.runtime.connections import Narrator, baseline_of, connected, opened_store, project_at
from harness.runtime.open_files import allow_open_files
from harness.runtime.recordings import record_run
from harness.runtime.run_values import INTERRUPTED, Console, RunOptions, RunResult
from harness.runtime.takeover import taken_over
from harness.settings import Settings
from tasks.errors import CheckoutError, EnvironmentFault, UsageError
from tasks.events import Event

if TYPE_CHECKING:
    from harness.engine.supervisor import Ending, Supervisor
    from harness.repository import Repository
    from harness.store.claims import Claims
    from harness.store.database import Database
    from harness.store.tables import RunRow
    from tasks.backlog import Backlog


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Workplace:
    """Everything that a run is worked with and that outlives who works on it."""

    project: Project
    repository: Repository
    database: Database
    row: RunRow
    backlog: Backlog
    options: RunOptions

    def changed(self, settings: Settings) -> Workplace:
        """With as much of other settings as a run may take over."""
        return replace(self, project=replace(self.project, settings=taken_over(self.project.settings, settings)))

    async def goes_on(self) -> Event:
        """The first event of whoever takes part in a run that was begun earlier."""
        from harness.store.runs import Runs

        agents = await Runs(self.database).agents(self.row.id)
        return Event("run.resumed", self.row.id, None, {"tickets": {agent.ticket: agent.state for agent in agents}})

    async def worked(
        self,
        console: Console,
        first: Event,
        *,
        before: Callable[[], Awaitable[None]] = _nothing,
        entered: Callable[[], Awaitable[None]] = _nothing,
        leads: bool = True,
        own_agents: int | None = None,
    ) -> RunResult:
        """Work on the run until all tickets have ended or it breaks off, and note which. `before` is called when the
        baseline is up, `entered` when it is certain that nobody else keeps this worker out; both may still refuse.
        `first` is the first event then."""
        from harness.agents.factory import ensure_model
        from harness.engine.supervisor import Drained
        from harness.runtime.crew import crew
        from harness.store.claims import Claims
        from harness.store.journal import StoreJournal

        project, row = self.project, self.row
        async with AsyncExitStack() as stack:
            at_once = own_agents or self.options.agents or project.settings.limits.agents
            allow_open_files(min(at_once, len(self.backlog)))
            driver = await stack.enter_async_context(connected(project))
            claims = Claims(self.database, row.id, leads=leads)
            await claims.refuse()
            await ensure_model(project.settings.agent)
            await stack.enter_async_context(baseline_of(project, driver, row.base, console.narrate))
            await before()
            await claims.begin()
            try:
                await entered()
            except BaseException:
                await claims.end()
                raise
            journal = StoreJournal(self.database, row.id, claims=claims)
            journal.listen(console.listen)
            journal.emit(first.kind, None, first.data)
            state, endings = "interrupted", None
            try:
                async with (
                    crew(
                        project,
                        row,
                        self.repository,
                        self.database,
                        driver,
                        claims,
                        journal,
                        self.backlog,
                        console.narrate,
                        agents=self.options.agents,
                        own_agents=own_agents,
                    ) as supervisor,
                    _drained_by(console.drain, supervisor),
                ):
                    endings = await supervisor.work(self.backlog.tickets)
                state = "cancelled" if supervisor.cancelled else "finished"
            except Drained:
                pass
            finally:
                if state == "interrupted":
                    journal.emit("run.interrupted")
                recorded = await self._left(claims, state, console.narrate)
            return await self._result(endings, recorded)

    async def _left(self, claims: Claims, state: str, narrate: Narrator) -> bool:
        """Leave the run; whether everything that was to be recorded was."""
        from harness.store.runs import Runs

        runs = Runs(self.database)
        await claims.end()
        if state != "interrupted" or not await claims.others():
            await runs.end(self.row.id, state)
        if self.options.record is None:
            return True
        # A run that broke off was paid for as well: what had ended is kept.
        return await record_run(self.project, await runs.agents(self.row.id), self.options.record, narrate)

    async def _result(self, endings: tuple[Ending, ...] | None, recorded: bool) -> RunResult:
        from harness.store.runs import Runs, tally

        runs = Runs(self.database)
        agents = await runs.agents(self.row.id)
        before = await runs.attempts(self.row.id)
        code = INTERRUPTED if endings is None else _exit_code(endings)
        return RunResult(
            run=self.row.id,
            tickets=tally(agents),
            agents=agents,
            cost_usd=sum(agent.cost_usd for agent in agents) + sum(attempt.cost_usd for attempt in before),
            seconds=time.time() - self.row.started_at,
            exit_code=code if recorded else EnvironmentFault.exit_code,
        )


@asynccontextmanager
async def earlier(project: Project, name: str) -> AsyncIterator[tuple[Workplace, Settings]]:
    """Where an earlier run is worked, and what `spurline.yaml` in the work tree says by now. UsageError where there is
    no such run, or nothing of it is left."""
    from harness.repository import Repository
    from harness.store.runs import Runs
    from tasks.states import is_final

    repository = await Repository.open(project.root)
    async with opened_store(project) as database:
        runs = Runs(database)
        row = await runs.find(name)
        # One that was killed after its last ticket had ended has yet to leave.
        left = row.state in ("finished", "cancelled")
        if left and all(is_final(agent.state) for agent in await runs.agents(row.id)):
            raise UsageError(
                f"every ticket of run {row.id} has ended",
                hint="`spurline runs retry` queues those again that were not verified",
            )
        await _ensure_here(repository, row.base)
        at_base = await project_at(project, repository, row.base)
        begun = Settings.model_validate(json.loads(row.settings))
        # What judges is as the base commit has it; how much of everything may be used is as the run has it.
        at_base = replace(at_base, settings=taken_over(at_base.settings, begun))
        options = RunOptions.from_json(row.options)
        if "agents" in json.loads(row.limits):
            # It was changed since the run was begun with a number of its own.
            options = replace(options, agents=None)
        backlog = await chosen_before(at_base, options, repository, row.base)
        yield Workplace(at_base, repository, database, row, backlog, options), project.settings


async def _ensure_here(repository: Repository, base: str) -> None:
    """CheckoutError where the commit is not in this repository: on another machine the run may have begun with it."""
    try:
        await repository.tree(base)
    except CheckoutError:
        raise CheckoutError(
            f"commit {base[:12]}, with which the run began, is not in this repository",
            hint="`git fetch` it from where the run was begun",
        ) from None


@asynccontextmanager
async def _drained_by(drain: asyncio.Event, supervisor: Supervisor) -> AsyncIterator[None]:
    async def wait() -> None:
        await drain.wait()
        supervisor.drain()

    waiting = asyncio.create_task(wait(), name="drain")
    try:
        yield
    finally:
        waiting.cancel()
        await asyncio.wait([waiting])


def _exit_code(endings: tuple[Ending, ...]) -> int:
    if any(ending.environment for ending in endings):
        return EnvironmentFault.exit_code
    return 0 if all(ending.state == "verified" for ending in endings) else 1
