"""Which tickets a run is about: of a commit that it begins with, or of the one that it was begun with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.project import Project
from harness.runtime.connections import Narrator
from harness.runtime.run_values import RunOptions
from tasks.errors import CheckoutError

if TYPE_CHECKING:
    from harness.repository import Repository
    from tasks.backlog import Backlog


async def chosen_anew(
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


async def chosen_before(project: Project, options: RunOptions, repository: Repository, base: str) -> Backlog:
    """The tickets of a run that was begun earlier, as its base commit has them."""
    async with repository.exported(base) as folder:
        backlog = await asyncio.to_thread(project.backlog, folder)
    return _copied(_chosen(backlog, options), options)


def _chosen(backlog: Backlog, options: RunOptions) -> Backlog:
    return backlog.only(options.tickets) if options.tickets else backlog


def _copied(backlog: Backlog, options: RunOptions) -> Backlog:
    return backlog if options.copies is None else backlog.multiplied(options.copies)
