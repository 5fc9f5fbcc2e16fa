"""Where what belongs to a ticket is outside of the store: its sandbox while it lives, its worktree, its branch."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graphs.ports import attempt_name
from harness.project import Project, invocation
from tasks.events import Event
from tui.feed import Links, Living

if TYPE_CHECKING:
    from harness.store.database import Database
    from harness.store.tables import AgentRow

_FILES: Final = 20


async def living(project: Project, name: str | None) -> Living | None:
    """The sandbox of this name, while it lives; nothing is started to find out."""
    from harness.runtime.connections import attached

    async with attached(project.root) as driver:
        if driver is None or name is None:
            return None
        found = {one.name: one for one in await driver.list()}.get(name)
    if found is None:
        return None
    return Living(
        name=found.name,
        preview=found.urls.get(project.settings.baseline.entry, ""),
        lease_ends=found.lease_ends,
        forks=tuple((one.service, one.generation, one.alive) for _, one in sorted(found.forks.items())),
        faults=found.faults,
    )


def commit_of(agent: AgentRow, events: Sequence[Event]) -> str:
    """What its agent committed last, in this attempt or in one that it goes on from; empty before the first commit. Its
    row has it when it has ended."""
    from harness.store.attempts import ANEW

    if agent.commit:
        return agent.commit
    for event in reversed(events):
        if event.kind == "commit.made":
            return str(event.data.get("commit") or "")
        if (event.data.get("state"), event.data.get("reason")) == ("queued", ANEW):
            break
    return ""


async def links(project: Project, database: Database, run: str, ticket: str) -> Links:
    """Raises UsageError where the run has no such ticket, StoreError, SandboxError, CheckoutError."""
    from harness.store.runs import Runs

    runs = Runs(database)
    agent, row = await runs.agent(run, ticket), await runs.find(run)
    commit = commit_of(agent, await runs.events(run, ticket, kinds=("agent.state", "commit.made")))
    folder = project.state / "worktrees" / run / attempt_name(ticket, agent.attempt)
    there = await asyncio.to_thread(folder.is_dir)
    box = await living(project, agent.sandbox)
    return Links(
        ticket=ticket,
        preview=box.preview if box else "",
        worktree=str(folder) if there else "",
        changed=await _changed(project, row.base, commit, folder) if there and commit else (),
        branch=agent.branch or "",
        commit=commit,
        show=f"{invocation(project.root)} {shlex.join(['runs', 'show', run, '-t', ticket])}",
        restore=_restore(project.root, ticket, agent.branch),
    )


def _restore(root: Path, ticket: str, branch: str | None) -> str:
    """What makes a worktree of an ended ticket's branch, beside the repository."""
    if not branch:
        return ""
    return shlex.join(["git", "-C", str(root), "worktree", "add", f"../{root.name}-{ticket}", branch])


async def _changed(project: Project, base: str, commit: str, folder: Path) -> tuple[str, ...]:
    """Files of the worktree that the commit changed. The agent made them: what leads elsewhere is left out."""
    from harness.repository import Repository

    repository = await Repository.open(project.root, settled=False)
    paths = [change.path for change in await repository.changed(base, commit)]
    return await asyncio.to_thread(_inside, folder, paths)


def _inside(folder: Path, paths: list[str]) -> tuple[str, ...]:
    # Not `Path.resolve`: that raises where a link leads to itself.
    whole = os.path.realpath(folder)
    found = [
        path
        for path in paths
        if (place := Path(os.path.realpath(folder / path))).is_relative_to(whole)
        and place.is_file()
        and path.isprintable()
    ]
    return tuple(f".{os.sep}{path}" for path in found[:_FILES])
