"""Spurline: its supervisor, loop, store, checkpoints and agent. Only what needs a system of services does nothing."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from lap import Lap, Watch, told

from graphs.loop import build_loop
from graphs.ports import Ports, Verdict, Work
from harness.agents.factory import build_agent
from harness.engine.breakers import Breaker
from harness.engine.budget import Budget, Caps
from harness.engine.limits import Limits
from harness.engine.model_limits import ModelLimits
from harness.engine.noticeboard import Noticeboard
from harness.engine.supervisor import Supervisor
from harness.engine.throttle import ThrottledValidator, TrackedWorkspaces
from harness.limits import limits_of
from harness.settings import AgentSettings, LimitSettings
from harness.store.checkpoints import open_checkpoints
from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.documents import Messages
from harness.store.journal import StoreJournal
from harness.store.notes import Notes
from harness.store.runs import Runs
from harness.store.tables import RunRow
from sandbox.driver import Cursor, Driver
from tasks.ticket import Ticket

RUN = "r1"
BASE = "b" * 40


class Hollow:
    """Workspaces, validator, submitter and driver of a project without services."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def prepare(self, run: str, ticket: Ticket, attempt: int = 1, carries_on: int = 0) -> Work:
        name = f"{run}-{ticket.id}"
        return Work(run, ticket, f"spurline/{run}/{ticket.id}", BASE, str(self._folder), name, attempt)

    async def commit(self, work: Work, message: str) -> str | None:
        return work.ticket.id.encode().hex().ljust(40, "0")

    async def tree(self, commit: str) -> str:
        return commit

    async def release(self, work: Work) -> None:
        return None

    async def static(self, work: Work, commit: str) -> str | None:
        return None

    async def instantiate(self, work: Work, commit: str) -> Verdict | None:
        return None

    async def validate(self, work: Work, commit: str, iteration: int) -> Verdict:
        return Verdict(f"v-{work.ticket.id}", "verified", "nothing to judge", None)

    async def submit(self, work: Work, commit: str, verdict: str) -> str:
        return f"branch {work.branch}"

    async def cursor(self) -> Cursor:
        return Cursor(0.0, 0, 0)

    async def hold(self, *, lease_s: float) -> None:
        return None

    async def renew(self, name: str, *, ttl_s: float) -> None:
        return None


async def main(lap: Lap) -> None:
    tickets = tuple(Ticket(id=name, title="read one file", body="Read what is there.") for name in lap.tickets)
    row = RunRow(
        id=RUN,
        project="bench",
        base=BASE,
        state="running",
        settings_digest="",
        settings="{}",
        spurline="",
        tickets=len(tickets),
        started_at=time.time(),
    )
    worktree = lap.folder / "worktree"
    worktree.mkdir(exist_ok=True)
    (worktree / "one.txt").write_text("one\n")
    hollow = Hollow(worktree)
    async with Database(lap.folder / "spurline.db") as database:
        if not lap.joins:
            await Runs(database).begin(row, tickets)
        claims = Claims(database, RUN, leads=not lap.joins)
        await claims.begin()
        others = [] if lap.joins else [await _another() for _ in range(1, lap.processes)]
        while len(await claims.others()) < len(others):  # noqa: ASYNC110 - other processes get ready
            await asyncio.sleep(0.05)
        await _work(lap, tickets, hollow, database, claims)
        for other in others:
            await other.wait()
        await claims.end()


async def _another() -> asyncio.subprocess.Process:
    """A worker beside this one, as `spurline worker` is."""
    return await asyncio.create_subprocess_exec(sys.executable, *sys.argv, "--joins", stdout=asyncio.subprocess.DEVNULL)


async def _work(lap: Lap, tickets: tuple[Ticket, ...], hollow: Hollow, database: Database, claims: Claims) -> None:
    journal = StoreJournal(database, RUN, claims=claims)
    supervisor: Supervisor
    budget = Budget(run=Caps(), ticket=Caps())
    calls = ModelLimits(
        budget,
        model_calls=lap.agents,
        priority=lambda ticket: -supervisor.urgency(ticket),
        before_call=lambda ticket: supervisor.admit_call(ticket),
        waited=lambda ticket, seconds: journal.emit(
            "agent.waited", ticket, {"for": "model_calls", "seconds": round(seconds, 3)}
        ),
    )
    limits = Limits(
        limits_of(LimitSettings(agents=lap.agents, model_calls=lap.agents), AgentSettings()),
        calls=calls,
        budget=budget,
        urgency=lambda ticket: supervisor.urgency(ticket),
        waited=lambda ticket, gate, seconds: journal.emit(
            "agent.waited", ticket, {"for": gate, "seconds": round(seconds, 3)}
        ),
    )
    workspaces, driver = TrackedWorkspaces(hollow), cast(Driver, hollow)
    noticeboard = Noticeboard(Notes(database), journal, RUN)
    agent = build_agent(
        AgentSettings(kind="rehearsal"),
        driver=driver,
        meter=calls,
        notes=noticeboard,
        journal=journal,
        transcripts=lap.folder / "transcripts",
        repo_root=lap.folder,
        state=lap.folder / "state",
        entry="gateway",
        diagnostics=_no_diagnostics,
        base_url=lap.url,
    )
    async with agent as working, open_checkpoints(lap.folder / "checkpoints.db") as saver:
        supervisor = Supervisor(
            run=RUN,
            loop=build_loop(saver),
            ports=Ports(
                workspaces=workspaces,
                agent=working,
                validator=ThrottledValidator(hollow, limits.gates["checks"]),
                submitter=hollow,
                journal=journal,
                messages=Messages(database),
                tickets={ticket.id: ticket for ticket in tickets},
                caps=limits.rounds,
            ),
            claims=claims,
            workspaces=workspaces,
            driver=driver,
            limits=limits,
            taken_up=noticeboard.take_up,
            wished=noticeboard.read,
            breakers={"baseline": Breaker("baseline", _told), "model": Breaker("model", _told)},
            on_crash=lambda ticket, trace: print(ticket, trace, file=sys.stderr),
        )
        journal.listen(_heed(supervisor))
        watch = Watch()
        endings = await supervisor.work(tickets)
        watch.stop(sum(ending.state == "verified" for ending in endings))


def _heed(supervisor: Supervisor) -> Callable[[Any], None]:
    def heed(event: Any) -> None:
        if event.kind == "agent.state" and event.ticket is not None:
            supervisor.noted(event.ticket, event.data["state"], event.data.get("iterations"))

    return heed


def _told(name: str, reason: str | None, seconds: float) -> None:
    print(f"{name}: {reason}", file=sys.stderr)


async def _no_diagnostics(work: Work) -> str:
    return ""


if __name__ == "__main__":
    asyncio.run(main(told()))
