"""A run is joined from another clone of the repository, which has to have the commit that it began with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harness.project import read_project
from harness.repository import Repository
from harness.runtime import Console, join_run, opened_store
from harness.store.runs import Runs
from harness.store.tables import RunRow
from tasks.errors import CheckoutError
from tests.chaos.stories import make, names
from tests.conftest import commit_all, git


async def test_a_commit_that_was_not_fetched_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make(tmp_path / "here", names(loud=1))
    git(tmp_path, "clone", "-q", "here", "there")
    (here / "later").write_text("")
    base = commit_all(here, "later")
    project = read_project(here)
    row = RunRow(
        id="r1",
        project="p",
        base=base,
        state="running",
        settings_digest="",
        settings="{}",
        spurline="0",
        tickets=1,
        started_at=1.0,
    )
    there = tmp_path / "there"
    async with opened_store(project) as database:
        await Runs(database).begin(row, project.backlog().tickets)
    (there / ".spurline").mkdir()
    (here / ".spurline" / "spurline.db").rename(there / ".spurline" / "spurline.db")
    assert await (await Repository.open(there)).head() != base
    console = Console(lambda _: None, lambda _: None, asyncio.Event())
    with pytest.raises(CheckoutError, match=f"commit {base[:12]}, with which the run began, is not in this") as refused:
        await join_run(read_project(there), "r1", console)
    assert "git fetch" in refused.value.hint
