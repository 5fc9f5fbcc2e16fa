"""`spurline runs report` through the installed command, over a store that holds the rows of real runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from harness.store.database import Database
from harness.store.tables import EventRow, VerdictRow
from tests.conftest import commit_all, git
from tests.recorded_runs import Recorded, read

GOLDENS = Path(__file__).parents[1] / "unit" / "goldens" / "report"
FINISHED, INTERRUPTED = "20261128-055035-5d90", "20261128-055525-cb05"
SETTINGS = "project: shop\nbaseline: {entry: web, services: {web: {command: [web]}}}\n"

Spurline = Callable[..., Any]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose store holds a finished run, the one before it, and an interrupted one. It is only read."""
    root = tmp_path_factory.mktemp("shop")
    (root / "spurline.yaml").write_text(SETTINGS)
    git(root, "init", "-q", "-b", "main")
    commit_all(root, "first")
    asyncio.run(_fill(root / ".spurline" / "spurline.db"))
    return root


async def _fill(path: Path) -> None:
    async with Database(path) as database:
        for name in ("finished", "interrupted"):
            recorded = read(GOLDENS / f"{name}.rows.json")
            await database.write(lambda session, recorded=recorded: _keep(session, recorded))  # type: ignore[misc]  # mypy cannot infer a lambda with a default


def _keep(session: Session, recorded: Recorded) -> None:
    runs = [(recorded.run, recorded.agents)] + ([recorded.earlier] if recorded.earlier else [])
    for run, agents in runs:
        session.merge(run)
        session.flush()
        for agent in agents:
            session.merge(agent)
    for event in recorded.events:
        data = json.dumps(event.data)
        session.add(EventRow(run=event.run, ticket=event.ticket, kind=event.kind, at=event.at, data=data))
    for ticket, found in recorded.documents.items():
        document = json.dumps(found["document"])
        session.add(
            VerdictRow(
                id=found["id"], run=recorded.run.id, ticket=ticket, at=0.0, conclusion="known", document=document
            )
        )


@pytest.mark.parametrize(
    ("options", "ending"),
    [
        ((), "txt"),
        (("--markdown",), "md"),
        (("--json",), "json"),
        (("--format", "json"), "json"),
        (("--format", "html"), "html"),
    ],
)
def test_each_format_on_stdout(spurline: Spurline, shop: Path, options: tuple[str, ...], ending: str) -> None:
    done = spurline("runs", "report", FINISHED, *options, cwd=shop)
    assert (done.code, done.err) == (0, "")
    assert done.out == (GOLDENS / f"finished.{ending}").read_text()


@pytest.mark.parametrize("ending", ["txt", "html"])
def test_a_file_is_written_as_its_name_ends(spurline: Spurline, shop: Path, ending: str) -> None:
    done = spurline("runs", "report", FINISHED[:15], "--output", f"report.{ending}", cwd=shop)
    assert (done.code, done.out) == (0, "")
    assert done.err == f"the report of run {FINISHED} is in report.{ending}\n"
    assert (shop / f"report.{ending}").read_text() == (GOLDENS / f"finished.{ending}").read_text()


def test_the_newest_run_is_reported_though_it_was_interrupted(spurline: Spurline, shop: Path) -> None:
    done = spurline("runs", "report", cwd=shop)
    assert done.out == (GOLDENS / "interrupted.txt").read_text()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--json", "--format", "html"), "a report has one format, not html and json"),
        (("--format", "pdf"), "'pdf' is not one of 'text', 'json', 'markdown', 'html'"),
        (("--output", "nowhere/report.html"), "nowhere/report.html cannot be written: No such file or directory"),
        (("--output", "."), ". cannot be written: Is a directory"),
        (("nothing",), "there is no run 'nothing'"),
    ],
)
def test_what_cannot_be_is_said(spurline: Spurline, shop: Path, options: tuple[str, ...], error: str) -> None:
    run = () if options == ("nothing",) else (FINISHED,)
    done = spurline("runs", "report", *run, *options, cwd=shop)
    assert done.code == 2
    assert error in done.err


def test_a_full_disk_is_the_environments_fault(spurline: Spurline, shop: Path) -> None:
    done = spurline("runs", "report", FINISHED, "--output", "/dev/full", cwd=shop)
    assert done.code == 3
    assert "/dev/full: No space left on device" in done.err
