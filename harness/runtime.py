"""Where concrete parts meet: the only module that knows which class fulfils which port."""

from __future__ import annotations

import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.settings import FILE_NAME, STATE_NAME, Project, read_project
from sandbox.driver import Driver
from tasks.errors import CheckoutError, UsageError
from tasks.events import Event

if TYPE_CHECKING:
    from graphs.ports import Verdict
    from harness.engine.supervisor import Ending, Supervisor
    from harness.repository import Repository
    from harness.store.database import Database
    from harness.store.journal import StoreJournal
    from harness.store.tables import AgentRow, RunRow
    from tasks.backlog import Backlog

Listener = Callable[[Event], None]
Narrator = Callable[[str], None]


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


def console_script() -> str:
    """The installed `spurline`, beside this interpreter first. Our children are started through it only."""
    beside = Path(sys.executable).with_name("spurline")
    found = str(beside) if beside.exists() else shutil.which("spurline")
    if found is None:
        raise UsageError("the console script `spurline` is not installed beside this Python", hint="reinstall Spurline")
    return found


@asynccontextmanager
async def connected(project: Project) -> AsyncIterator[Driver]:
    """The driver of the project: its keeper, started where none answers."""
    from sandbox.local.client import ensure_keeper

    argv = [console_script(), "keeper", "--project", str(project.root)]
    driver = await ensure_keeper(project.root, project.state / "local", argv)
    try:
        yield driver
    finally:
        await driver.aclose()


@asynccontextmanager
async def attached(root: Path) -> AsyncIterator[Driver | None]:
    """The driver of the project at `root` if its keeper runs, else None: nothing is started."""
    from sandbox.local.client import find_keeper

    state = root / STATE_NAME / "local"
    driver = await find_keeper(state) if state.is_dir() else None
    try:
        yield driver
    finally:
        if driver is not None:
            await driver.aclose()


@asynccontextmanager
async def opened_store(project: Project) -> AsyncIterator[Database]:
    """The project's database."""
    from harness.store.database import Database

    if project.settings.store is not None:
        raise UsageError("`store:` is not supported yet", hint="remove it: state is kept in .spurline/ then")
    async with Database(project.state / "spurline.db") as database:
        yield database


@asynccontextmanager
async def baseline_of(project: Project, driver: Driver, commit: str, narrate: Narrator) -> AsyncIterator[None]:
    """The baseline of this commit; started where it is not up, and stopped then when nobody else uses it."""
    was_up = await driver.baseline() is not None
    if not was_up:
        narrate(f"starting the baseline from commit {commit[:12]}")
    await driver.up(project.system(), commit, lease_s=project.settings.baseline.ttl)
    try:
        yield
    finally:
        if not was_up and not await driver.list():
            await driver.down()


async def run_backlog(project: Project, options: RunOptions, listen: Listener, narrate: Narrator) -> RunResult:
    """Work the backlog to its end. Raises SpurlineError where it could not begin; cancelled, it lets go of all."""
    from harness.repository import Repository
    from harness.store.journal import StoreJournal
    from harness.store.runs import Runs, tally

    repository = await Repository.open(project.root)
    base = await repository.resolve(options.rev)
    project = await project_at(project, repository, base)
    backlog = await _backlog(project, options, repository, base, narrate)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened_store(project))
        driver = await stack.enter_async_context(connected(project))
        await stack.enter_async_context(baseline_of(project, driver, base, narrate))
        runs, row = Runs(database), _row(project, base, len(backlog))
        journal = StoreJournal(database, row.id)
        journal.listen(listen)
        await runs.begin(row, backlog.tickets)
        journal.emit("run.started", None, {"base": base, "tickets": [ticket.id for ticket in backlog]})
        state = "interrupted"
        try:
            crew = _crew(project, options, row, repository, database, driver, journal, backlog)
            async with crew as supervisor:
                endings = await supervisor.work(backlog.tickets)
            state = "finished"
        finally:
            await runs.end(row.id, state)
        agents = await runs.agents(row.id)
        result = RunResult(
            run=row.id,
            tickets=tally(agents),
            agents=agents,
            cost_usd=sum(agent.cost_usd for agent in agents),
            seconds=time.time() - row.started_at,
            exit_code=_exit_code(endings),
        )
        if options.record is not None:
            _write_recordings(project, row.id, backlog, options.record, narrate)
        return result


async def project_at(project: Project, repository: Repository, commit: str) -> Project:
    """The project as `commit` has it: what judges a change is never read from the work tree."""
    text = await repository.show(commit, FILE_NAME)
    return read_project(project.root, text.decode(errors="replace"))


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
    from harness.store.documents import canonical
    from harness.store.tables import RunRow

    return RunRow(
        id=f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}",
        project=project.settings.project,
        base=base,
        state="running",
        settings_digest=project.settings.digest(),
        settings=canonical(project.settings.model_dump(mode="json", by_alias=True)),
        spurline=version("spurline"),
        tickets=tickets,
        started_at=time.time(),
    )


def _exit_code(endings: tuple[Ending, ...]) -> int:
    if any(ending.environment for ending in endings):
        return 3
    return 0 if all(ending.state == "verified" for ending in endings) else 1


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The verdict on one commit, and where its record lies."""

    verdict: Verdict
    document: Mapping[str, Any]
    record: Path

    def to_json(self) -> dict[str, Any]:
        """The last line of `check --json`."""
        return {
            "event": "check.finished",
            "verdict": self.verdict.conclusion,
            "reason": self.verdict.reason,
            "commit": self.document["commit"],
            "base": self.document["base"],
            "checks": [
                {name: check[name] for name in ("name", "baseline", "sandbox", "flaky")}
                for check in self.document["checks"]
            ],
            "forks": [
                {name: fork[name] for name in ("service", "generation", "hops")} for fork in self.document["forks"]
            ],
            "record": str(self.record),
        }


async def check_commit(
    project: Project, rev: str, base_rev: str | None, ticket_id: str | None, narrate: Narrator
) -> CheckResult:
    """Judge one commit against its base and write the record. Raises SpurlineError where it cannot be judged."""
    from harness.repository import Repository
    from harness.store.documents import BaselineResults, Verdicts
    from harness.submission import SigningKey, write_record
    from harness.validation import LoopValidator, judge_commit

    repository = await Repository.open(project.root)
    commit = await repository.resolve(rev)
    base = await repository.resolve(base_rev) if base_rev is not None else await repository.fork_point(commit)
    project = await project_at(project, repository, base)
    ticket = next(iter(project.backlog().only([ticket_id]))) if ticket_id is not None else None
    narrate(f"judging {commit[:12]} against {base[:12]}")
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened_store(project))
        driver = await stack.enter_async_context(connected(project))
        await stack.enter_async_context(baseline_of(project, driver, base, narrate))
        verdicts = Verdicts(database)
        validator = LoopValidator(driver, repository, project.state, BaselineResults(database), verdicts)
        await stack.enter_async_context(validator)
        run = f"check-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        verdict = await judge_commit(validator, run=run, base=base, commit=commit, ticket=ticket)
        document = await verdicts.load(verdict.id)
        record = write_record(project.state, document, SigningKey.of(project.state / "keys"))
        return CheckResult(verdict, document, record)


@asynccontextmanager
async def _crew(
    project: Project,
    options: RunOptions,
    row: RunRow,
    repository: Repository,
    database: Database,
    driver: Driver,
    journal: StoreJournal,
    backlog: Backlog,
) -> AsyncIterator[Supervisor]:
    """Everybody who takes part in a run, put together."""
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
                base_url=await stack.enter_async_context(_model_url(project)),
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
            agents=options.agents or limits.agents,
            ticket_s=limits.ticket_minutes * 60,
            ttl_s=settings.baseline.ttl,
            on_crash=lambda ticket, trace: _note_crash(folder, ticket, trace),
        )


@asynccontextmanager
async def _model_url(project: Project) -> AsyncIterator[str | None]:
    """Where the model is reached: None is for the SDK to find out."""
    if project.settings.agent.kind != "rehearsal":
        yield None
        return
    from harness.agents.rehearsal.server import serve_rehearsal

    async with serve_rehearsal(project.root / project.settings.agent.recordings) as url:
        yield url


def _links(project: Project) -> tuple[Path, ...]:
    services = project.settings.baseline.services.values()
    return tuple(sorted({project.root / name for service in services for name in service.link}))


def _note_crash(folder: Path, ticket: str, trace: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "crashes.log").open("a", encoding="utf-8") as log:
        log.write(f"ticket {ticket}\n{trace}\n")


def _write_recordings(project: Project, run: str, backlog: Backlog, folder: Path, narrate: Narrator) -> None:
    from harness.agents.rehearsal.record import recording_of, write_recording
    from harness.agents.transcript import Transcript

    for ticket in backlog:
        transcript = Transcript.open(project.state / "transcripts", run, ticket.id)
        if any(entry.origin == "agent" for entry in transcript.entries):
            path = folder / f"{ticket.id}.yaml"
            write_recording(recording_of(ticket.id, transcript.entries), path)
            narrate(f"recorded {path}")
