"""A run that nobody works on is cancelled: everything of it is removed, and one that has ended stays as it ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.project import Project, read_project
from harness.repository import Repository, Worktrees
from harness.runtime import abandon_run, opened_store
from harness.store.journal import StoreJournal
from harness.store.runs import Runs
from harness.store.tables import RunRow
from tests.chaos.stories import make, names


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return read_project(make(tmp_path, names(loud=2)))


async def begun(project: Project) -> RunRow:
    repository = await Repository.open(project.root)
    row = RunRow(
        id="r1",
        project="p",
        base=await repository.head(),
        state="running",
        settings_digest="",
        settings="{}",
        spurline="0",
        tickets=2,
        started_at=1.0,
    )
    async with opened_store(project) as database:
        await Runs(database).begin(row, project.backlog().tickets)
    return row


async def test_what_was_only_prepared_leaves_no_worktree_and_no_branch(project: Project) -> None:
    row = await begun(project)
    repository = await Repository.open(project.root)
    first, _ = project.backlog().tickets
    async with opened_store(project) as database:
        await StoreJournal(database, row.id).move(first.id, "preparing")
        work = await Worktrees(repository, project.state / "worktrees", row.base).prepare(row.id, first)
    assert await abandon_run(project, row.id) == (row.id, 2, None)
    assert not Path(work.worktree).exists()
    assert await repository.branch(work.branch) is None
    async with opened_store(project) as database:
        assert {agent.state for agent in await Runs(database).agents(row.id)} == {"cancelled"}
        assert (await Runs(database).find(row.id)).state == "cancelled"


async def test_a_run_that_has_ended_stays_as_it_ended(project: Project) -> None:
    row = await begun(project)
    async with opened_store(project) as database:
        for ticket in project.backlog():
            await StoreJournal(database, row.id).move(ticket.id, "error")
        await Runs(database).end(row.id, "finished")
        ended_at = (await Runs(database).find(row.id)).ended_at
    assert await abandon_run(project, row.id) == (row.id, 0, None)
    async with opened_store(project) as database:
        after = await Runs(database).find(row.id)
    assert (after.state, after.ended_at) == ("finished", ended_at)
