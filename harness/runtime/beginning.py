"""A run that begins: the backlog of a base commit, noted with all its tickets queued, and worked to its end."""

from __future__ import annotations

import secrets
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

from harness.project import Project
from harness.runtime.choosing import chosen_anew
from harness.runtime.connections import opened_store, project_at
from harness.runtime.recordings import refuse_existing
from harness.runtime.run_values import Console, RunOptions, RunResult
from harness.runtime.workplace import Workplace
from tasks.events import Event

if TYPE_CHECKING:
    from harness.store.tables import RunRow


async def run_backlog(project: Project, options: RunOptions, console: Console) -> RunResult:
    """Work the backlog to its end. Raises SpurlineError where it could not begin; cancelled, it lets go of all."""
    from harness.repository import Repository
    from harness.store.runs import Runs

    repository = await Repository.open(project.root)
    base = await repository.resolve(options.rev)
    project = await project_at(project, repository, base)
    backlog = await chosen_anew(project, options, repository, base, console.narrate)
    if options.record is not None:
        refuse_existing(options.record, backlog)
    async with opened_store(project) as database:
        row = _row(project, base, len(backlog), options)
        place = Workplace(project, repository, database, row, backlog, options)

        async def begin() -> None:
            await Runs(database).begin(row, backlog.tickets)

        data = {"base": base, "tickets": [ticket.id for ticket in backlog]}
        return await place.worked(console, Event("run.started", row.id, None, data), before=begin)


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
