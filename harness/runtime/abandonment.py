"""A run that is cancelled: by whoever works on it, or, where nobody does, here."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from harness.project import Project
from harness.runtime.connections import attached, hold_until, opened_store
from tasks.errors import SpurlineError
from tasks.states import is_final

if TYPE_CHECKING:
    from harness.repository import Worktrees
    from harness.store.tables import AgentRow
    from sandbox.driver import Driver


async def abandon_run(project: Project, name: str, tickets: tuple[str, ...] = ()) -> tuple[str, int, str | None]:
    """Cancel the run, or some of its tickets. Its id, how many tickets had not ended, and where the process is that
    cancels them, None where that was done here."""
    from harness.repository import Repository, Worktrees
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
            worktrees = Worktrees(repository, project.state / "worktrees", row.base)
            async with attached(project.root) as driver:
                for agent in await runs.agents(row.id):
                    # What is being handed over is not taken back: `runs resume` finishes that.
                    if is_final(agent.state) or agent.state == "submitting":
                        continue
                    if not tickets or agent.ticket in tickets:
                        await journal.move(agent.ticket, "cancelled", "cancelled by the user")
                        await _clear(agent, worktrees, driver)
        finally:
            await claims.end()
        if concerned and all(is_final(agent.state) for agent in await runs.agents(row.id)):
            await runs.end(row.id, "cancelled")
        return row.id, concerned, None


async def _clear(agent: AgentRow, worktrees: Worktrees, driver: Driver | None) -> None:
    """Remove the agent's worktree and sandbox, where it had begun; one that is to be kept lives on."""
    from harness.engine.keeping import kept_s
    from tasks.ticket import Ticket

    if agent.started_at is None:
        return
    work = worktrees.work(agent.run, Ticket(id=agent.ticket, title=agent.title), agent.attempt)
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
