"""A run that is taken up again, from where each of its tickets stands."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version

from harness.project import Project
from harness.runtime.abandonment import clear_ended
from harness.runtime.run_values import Console, RunResult
from harness.runtime.takeover import changes
from harness.runtime.workplace import earlier
from tasks.errors import UsageError


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
    the pause of those alone is taken back. One that was cancelled, and broke off in that, only comes to its end.

    UsageError where it is being worked on, where nothing of it is left, where it was cancelled and `tickets` are to go
    on, or where it has no such ticket, or `spurline.yaml` has changed since and that is not accepted."""
    from harness.store.documents import sorted_json
    from harness.store.runs import Runs

    async with earlier(project, name) as (place, settings):
        runs = Runs(place.database)
        ends = place.row.wish == "cancelled" and not tickets
        if not ends:
            await runs.refuse(place.row.id, "", tickets)
        changed = changes(json.loads(place.row.settings), settings.model_dump(mode="json", by_alias=True))
        if changed and not accept_changes:
            raise UsageError(
                f"spurline.yaml has changed since run {place.row.id} began: {'; '.join(changed[:5])}"
                + (f"; and {len(changed) - 5} more" if len(changed) > 5 else ""),
                hint="undo that, or go on with --accept-changes: it takes over `agent`, `limits` and `submit`, "
                "and everything else stays as the base commit has it",
            )
        if changed:
            place = place.changed(settings)
            console.narrate(f"taken over from spurline.yaml, as far as it does not judge: {'; '.join(changed)}")
        if place.row.spurline != version("spurline"):
            console.narrate(f"the run was begun by Spurline {place.row.spurline}, this is {version('spurline')}")
        now = place.project.settings

        if agents is not None:
            place = replace(place, options=replace(place.options, agents=agents))
        options = place.options.to_json()

        if ends:
            console.narrate(f"run {place.row.id} was cancelled: only what was being handed over is finished")

        async def begin() -> None:
            if not ends:
                await runs.wish(place.row.id, "", tickets)
            await clear_ended(project, place.repository, place.row, await runs.agents(place.row.id))
            said = sorted_json(now.model_dump(mode="json", by_alias=True))
            await runs.reopen(place.row.id, settings=said, digest=now.digest(), options=options)

        return await place.worked(console, await place.goes_on(), entered=begin)
