"""A run that others work on too."""

from __future__ import annotations

from harness.project import Project
from harness.runtime.run_values import Console, RunResult
from harness.runtime.workplace import earlier


async def join_run(project: Project, name: str, console: Console, *, agents: int | None = None) -> RunResult:
    """Share the work on a run that others work on too, until all of its tickets have ended."""
    from harness.store.runs import Runs

    async with earlier(project, name) as (place, _):

        async def begin() -> None:
            await Runs(place.database).reopen(place.row.id)

        return await place.worked(console, await place.goes_on(), entered=begin, leads=False, own_agents=agents)
