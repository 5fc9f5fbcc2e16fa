"""A run that is not taken up again: it is refused before anything is started, and its pause stands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harness.project import Project, read_project
from harness.repository import Repository
from harness.runtime import Console, attached, opened_store, resume_run
from harness.store.documents import sorted_json
from harness.store.runs import Runs
from harness.store.tables import RunRow
from tasks.errors import UsageError
from tests.chaos.stories import make, names
from tests.conftest import commit_all


@pytest.fixture
async def project(tmp_path: Path) -> Project:
    """With a run `r1` that was paused, and that nobody works on."""
    project = read_project(make(tmp_path, names(loud=2)))
    row = RunRow(
        id="r1",
        project="p",
        base=await (await Repository.open(project.root)).head(),
        state="interrupted",
        settings_digest=project.settings.digest(),
        settings=sorted_json(project.settings.model_dump(mode="json", by_alias=True)),
        spurline="0",
        tickets=2,
        started_at=1.0,
    )
    async with opened_store(project) as database:
        await Runs(database).begin(row, project.backlog().tickets)
        await Runs(database).wish(row.id, "paused")
    return project


async def refused(project: Project, *tickets: str, match: str) -> None:
    told: list[str] = []
    console = Console(lambda event: told.append(event.kind), told.append, asyncio.Event())
    with pytest.raises(UsageError, match=match):
        await resume_run(project, "r1", console, tickets=tickets)
    assert not told
    async with attached(project.root) as keeper:
        assert keeper is None
    async with opened_store(project) as database:
        row = await Runs(database).find("r1")
        assert {agent.wish for agent in await Runs(database).agents("r1")} == {""}
    assert (row.state, row.wish) == ("interrupted", "paused")


async def test_for_a_ticket_that_it_does_not_have(project: Project) -> None:
    first, _ = project.backlog().tickets
    await refused(project, first.id, "nope", match="run r1 has no ticket 'nope'")


async def test_for_settings_that_have_changed(project: Project) -> None:
    first, _ = project.backlog().tickets
    path = project.root / "spurline.yaml"
    path.write_text(path.read_text().replace("agents: 100", "agents: 3"))
    commit_all(project.root, "fewer at once")
    await refused(read_project(project.root), first.id, match=r"spurline\.yaml has changed")
