"""A run that is cancelled: by whoever works on it, or, where nobody does, here. And what of tickets that have ended is
left, where whoever ended them was killed before it could be removed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.project import Project
from harness.runtime.connections import attached, hold_until, opened_store
from tasks.errors import SpurlineError
from tasks.states import is_final

if TYPE_CHECKING:
    from graphs.ports import Work
    from harness.repository import Repository, Worktrees
    from harness.store.tables import AgentRow, RunRow
    from sandbox.driver import Driver

_AT_ONCE: Final = 8
"""Tickets of which something is removed."""


async def abandon_run(project: Project, name: str, tickets: tuple[str, ...] = ()) -> tuple[str, int, str | None]:
    """Cancel the run, or some of its tickets. Its id, how many tickets had not ended, and where the process is that
    cancels them, None where that was done here."""
    from harness.repository import Repository
    from harness.store.claims import Claims
    from harness.store.journal import StoreJournal
    from harness.store.runs import Runs

    async with opened_store(project) as database:
        runs = Runs(database)
        row = await runs.find(name)
        concerned = await runs.wish(row.id, "cancelled", tickets)
        claims = Claims(database, row.id)
        if others := await claims.others():
            return row.id, concerned, others[0].where
        await claims.begin()
        try:
            journal = StoreJournal(database, row.id, claims=claims)
            repository = await Repository.open(project.root, settled=False)
            for agent in await runs.agents(row.id):
                # What is being handed over is not taken back: `runs resume` finishes that.
                if is_final(agent.state) or agent.state == "submitting":
                    continue
                if not tickets or agent.ticket in tickets:
                    await journal.move(agent.ticket, "cancelled", "cancelled by the user")
            await clear_ended(project, repository, row, await runs.agents(row.id))
        finally:
            await claims.end()
        row = await runs.find(row.id)
        # Whoever was to end it may have been killed when all of its tickets had.
        begun = concerned or (row.wish == "cancelled" and row.state not in ("finished", "cancelled"))
        if begun and all(is_final(agent.state) for agent in await runs.agents(row.id)):
            await runs.end(row.id, "cancelled")
        return row.id, concerned, None


async def clear_ended(project: Project, repository: Repository, row: RunRow, agents: Sequence[AgentRow]) -> None:
    """Remove worktrees and sandboxes of tickets that have ended, while nobody works on the run; and checkouts that
    judged, of processes that are gone."""
    from harness.repository import Worktrees
    from harness.repository.scratch import sweep

    with suppress(OSError):
        await asyncio.to_thread(sweep, project.state / "judge")
    worktrees = Worktrees(repository, project.state / "worktrees", row.base)
    turns, living = asyncio.Semaphore(_AT_ONCE), set[str]()

    async def clear(agent: AgentRow, driver: Driver | None) -> None:
        async with turns:
            for attempt in range(1, agent.attempt):
                work = _work(agent, worktrees, attempt)
                if Path(work.worktree).exists():
                    with suppress(SpurlineError):
                        await worktrees.release(work)
            # A verified one is told when nothing of it is left but what is to be kept.
            if is_final(agent.state) and agent.state != "verified":
                work = _work(agent, worktrees, agent.attempt)
                if Path(work.worktree).exists() or work.sandbox in living:
                    await _clear(agent, worktrees, driver)

    async with attached(project.root) as driver:
        if driver is not None:
            # What cannot be asked for ends with its lease.
            with suppress(SpurlineError):
                living.update(sandbox.name for sandbox in await driver.list())
        await asyncio.gather(*(clear(agent, driver) for agent in agents))


def _work(agent: AgentRow, worktrees: Worktrees, attempt: int) -> Work:
    from tasks.ticket import Ticket

    return worktrees.work(agent.run, Ticket(id=agent.ticket, title=agent.title), attempt)


async def _clear(agent: AgentRow, worktrees: Worktrees, driver: Driver | None) -> None:
    """Remove the agent's worktree and sandbox, where it had begun; one that is to be kept lives on."""
    from harness.engine.keeping import kept_s

    if agent.started_at is None:
        return
    work = _work(agent, worktrees, agent.attempt)
    with suppress(SpurlineError):
        await worktrees.release(work)
    if driver is not None:
        # What cannot be deleted ends with its lease.
        with suppress(SpurlineError):
            if (keep_s := kept_s(agent, time.time())) > 0:
                await driver.renew(work.sandbox, ttl_s=keep_s)
                await hold_until(driver, time.time() + keep_s)
            else:
                await driver.delete(work.sandbox)
