"""A run: the backlog of a base commit, worked by a crew until all tickets have ended. Begun, taken up again, joined."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.runtime.connections import Narrator, baseline_of, connected, opened_store, project_at
from harness.runtime.open_files import allow_open_files
from harness.runtime.recordings import record_run, refuse_existing
from harness.settings import Project, Settings
from tasks.errors import CheckoutError, EnvironmentFault, UsageError
from tasks.events import Event

if TYPE_CHECKING:
    from harness.engine.supervisor import Ending, Supervisor
    from harness.repository import Repository
    from harness.store.database import Database
    from harness.store.tables import AgentRow, RunRow
    from tasks.backlog import Backlog

Listener = Callable[[Event], None]

INTERRUPTED: Final = 130
_MAY_CHANGE: Final = ("agent", "limits", "submit")
"""What of `spurline.yaml` may be another one when a run goes on: nothing of it judges."""


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

    def to_json(self) -> str:
        """As the store keeps them."""
        return json.dumps({"tickets": self.tickets, "agents": self.agents, "copies": self.copies})

    @classmethod
    def from_json(cls, text: str) -> RunOptions:
        """What a run that goes on must know of how it was begun."""
        said = json.loads(text)
        return cls(tickets=tuple(said.get("tickets", ())), agents=said.get("agents"), copies=said.get("copies"))


@dataclass(frozen=True, slots=True)
class Console:
    """Whoever watches over a run from outside."""

    listen: Listener
    """Told every event of this process."""
    narrate: Narrator
    drain: asyncio.Event
    """Set, to have everything stop at its next step."""


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
            "event": "run.finished" if self.exit_code != INTERRUPTED else "run.interrupted",
            "run": self.run,
            "tickets": dict(self.tickets),
            "cost_usd": round(self.cost_usd, 6),
            "seconds": round(self.seconds, 3),
        }


async def run_backlog(project: Project, options: RunOptions, console: Console) -> RunResult:
    """Work the backlog to its end. Raises SpurlineError where it could not begin; cancelled, it lets go of all."""
    from harness.repository import Repository
    from harness.store.runs import Runs

    repository = await Repository.open(project.root)
    base = await repository.resolve(options.rev)
    project = await project_at(project, repository, base)
    backlog = await _backlog(project, options, repository, base, console.narrate)
    if options.record is not None:
        refuse_existing(options.record, backlog)
    async with opened_store(project) as database:
        row = _row(project, base, len(backlog), options)
        place = _Place(project, repository, database, row, backlog, options)

        async def begin() -> None:
            await Runs(database).begin(row, backlog.tickets)

        data = {"base": base, "tickets": [ticket.id for ticket in backlog]}
        return await place.worked(console, Event("run.started", row.id, None, data), before=begin)


async def resume_run(
    project: Project,
    name: str,
    console: Console,
    *,
    tickets: tuple[str, ...] = (),
    agents: int | None = None,
    accept_changes: bool = False,
) -> RunResult:
    """Take up a run again that was interrupted, paused or killed, or whose tickets are to be retried. With `tickets`
    the pause of those alone is taken back.

    UsageError where it is being worked on, where nothing of it is left, or where `spurline.yaml` has changed since and
    that is not accepted."""
    from harness.store.documents import sorted_json
    from harness.store.runs import Runs

    async with _found(project, name) as (place, settings):
        changes = _changes(json.loads(place.row.settings), settings.model_dump(mode="json", by_alias=True))
        if changes and not accept_changes:
            raise UsageError(
                f"spurline.yaml has changed since run {place.row.id} began: {'; '.join(changes[:5])}"
                + (f"; and {len(changes) - 5} more" if len(changes) > 5 else ""),
                hint="undo that, or go on with --accept-changes: it takes over `agent`, `limits` and `submit`, "
                "and everything else stays as the base commit has it",
            )
        if changes:
            place = place.changed(settings)
            console.narrate(f"taken over from spurline.yaml, as far as it does not judge: {'; '.join(changes)}")
        if place.row.spurline != version("spurline"):
            console.narrate(f"the run was begun by Spurline {place.row.spurline}, this is {version('spurline')}")
        runs = Runs(place.database)
        now = place.project.settings

        if agents is not None:
            place = replace(place, options=replace(place.options, agents=agents))
        options = place.options.to_json()

        async def begin() -> None:
            await runs.wish(place.row.id, "", tickets)
            said = sorted_json(now.model_dump(mode="json", by_alias=True))
            await runs.reopen(place.row.id, settings=said, digest=now.digest(), options=options)

        return await place.worked(console, await place.goes_on(), before=begin)


async def join_run(project: Project, name: str, console: Console, *, agents: int | None = None) -> RunResult:
    """Share the work on a run that others work on too, until all of its tickets have ended."""

    from harness.store.runs import Runs

    async with _found(project, name) as (place, _):

        async def begin() -> None:
            await Runs(place.database).reopen(place.row.id)

        return await place.worked(console, await place.goes_on(), before=begin, leads=False, own_agents=agents)


@asynccontextmanager
async def _found(project: Project, name: str) -> AsyncIterator[tuple[_Place, Settings]]:
    """Where an earlier run is worked, and what `spurline.yaml` in the work tree says by now."""
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
        at_base = await project_at(project, repository, row.base)
        begun = Settings.model_validate(json.loads(row.settings))
        # What judges is as the base commit has it; how much of everything may be used is as the run has it.
        at_base = replace(at_base, settings=_with(at_base.settings, begun))
        options = RunOptions.from_json(row.options)
        if "agents" in json.loads(row.limits):
            # It was changed since the run was begun with a number of its own.
            options = replace(options, agents=None)
        backlog = await _backlog_at(at_base, options, repository, row.base)
        yield _Place(at_base, repository, database, row, backlog, options), project.settings


@dataclass(frozen=True, slots=True)
class _Place:
    """Everything that a run is worked with and that outlives who works on it."""

    project: Project
    repository: Repository
    database: Database
    row: RunRow
    backlog: Backlog
    options: RunOptions

    def changed(self, settings: Settings) -> _Place:
        """With as much of other settings as a run may take over."""
        return replace(self, project=replace(self.project, settings=_with(self.project.settings, settings)))

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
        before: Callable[[], Any],
        leads: bool = True,
        own_agents: int | None = None,
    ) -> RunResult:
        """Work on the run until all tickets have ended or it breaks off, and note which. `before` is called when the
        baseline is up, and may still refuse; `first` is the first event then."""
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
            await stack.enter_async_context(baseline_of(project, driver, row.base, console.narrate))
            await before()
            await claims.begin()
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

    async def _left(self, claims: Any, state: str, narrate: Narrator) -> bool:
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


async def _backlog(
    project: Project, options: RunOptions, repository: Repository, base: str, narrate: Narrator
) -> Backlog:
    """The tickets to be worked. CheckoutError for one that the base commit does not hold as it stands."""
    backlog = project.backlog()
    project.checks()
    backlog = _chosen(backlog, options)
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
    return _copied(backlog, options)


async def _backlog_at(project: Project, options: RunOptions, repository: Repository, base: str) -> Backlog:
    """The tickets of a run that was begun earlier, as its base commit has them."""
    async with repository.exported(base) as folder:
        backlog = await asyncio.to_thread(project.backlog, folder)
    return _copied(_chosen(backlog, options), options)


def _chosen(backlog: Backlog, options: RunOptions) -> Backlog:
    return backlog.only(options.tickets) if options.tickets else backlog


def _copied(backlog: Backlog, options: RunOptions) -> Backlog:
    return backlog if options.copies is None else backlog.multiplied(options.copies)


def _row(project: Project, base: str, tickets: int, options: RunOptions) -> RunRow:
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
        options=options.to_json(),
    )


def _with(settings: Settings, other: Settings) -> Settings:
    """`settings` with what a run may take over from `other`."""
    return settings.model_copy(update={name: getattr(other, name) for name in _MAY_CHANGE})


def _changes(old: Any, new: Any, at: str = "") -> list[str]:
    """What differs between two documents, a line each: `limits.agents: 100 → 50`."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{at}: {json.dumps(old)} → {json.dumps(new)}"]
    found: list[str] = []
    for name in sorted({*old, *new}):
        found += _changes(old.get(name), new.get(name), f"{at}.{name}" if at else name)
    return found


def _exit_code(endings: tuple[Ending, ...]) -> int:
    if any(ending.environment for ending in endings):
        return EnvironmentFault.exit_code
    return 0 if all(ending.state == "verified" for ending in endings) else 1
