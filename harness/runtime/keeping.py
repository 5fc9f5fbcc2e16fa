"""Sandboxes that are to be kept, by the wish of whoever wants to look at them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.project import Project
from harness.runtime.connections import attached, hold_until
from tasks.errors import SandboxGone, UsageError
from tasks.states import is_final

if TYPE_CHECKING:
    from harness.store.database import Database


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of the wish to keep sandboxes."""

    until: float
    later: tuple[str, ...]
    """Tickets whose sandboxes live until then where they end before."""
    now: tuple[str, ...]
    """Tickets that nobody works on, whose sandboxes live, and do so until then."""


async def keep_sandboxes(project: Project, database: Database, run: str, tickets: Sequence[str], for_s: float) -> Kept:
    """Have the sandboxes of these tickets of the run live for so long from now on, or longer. UsageError where one has
    ended and its sandbox is gone; the wish stands for the others."""
    from harness.store.claims import Claims
    from harness.store.runs import Runs
    from harness.store.workers import elsewhere

    until = time.time() + for_s
    agents = await Runs(database).keep(run, tickets, until)
    worked_on = bool(await Claims(database, run).others())
    now = []
    async with attached(project.root) as driver:
        for agent in agents:
            # Whoever works on it does it himself when it ends.
            if driver is not None and agent.sandbox is not None and (is_final(agent.state) or not worked_on):
                with suppress(SandboxGone):
                    if (await driver.get(agent.sandbox)).lease_ends < until:
                        await driver.renew(agent.sandbox, ttl_s=for_s)
                    await hold_until(driver, until)
                    now.append(agent.ticket)
    left = [agent for agent in agents if is_final(agent.state) and agent.ticket not in now]
    if there := sorted(filter(None, {elsewhere(agent.machine) for agent in left})):
        raise UsageError(
            f"ended, and what is left of their sandboxes is on {', '.join(there)}: "
            f"{', '.join(agent.ticket for agent in left if elsewhere(agent.machine))}",
            hint="say it there",
        )
    if gone := [agent.ticket for agent in left]:
        raise UsageError(
            f"ended, and the sandbox is gone: {', '.join(gone)}",
            hint="`spurline sandbox create NAME --fork SERVICE=BRANCH` forks what is on the ticket's branch",
        )
    return Kept(until, tuple(agent.ticket for agent in agents if agent.ticket not in now), tuple(now))
