"""Submission to a branch over a real repository: after a crash at any step, everything is there and done once."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from graphs.ports import Work
from harness.repository import Repository, Worktrees
from harness.submission import BranchSubmitter, SigningKey, record_path, verify_file
from tasks.errors import CheckoutError
from tasks.ticket import Ticket

MakeRepo = Callable[[Mapping[str, str]], Path]


class Crash(Exception):
    pass


class Effects:
    """An effects journal in memory, that can be told to crash before or after an effect."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], str] = {}
        self.acts: list[str] = []
        self.crash: tuple[str, str] | None = None

    async def once(
        self,
        kind: str,
        target: str,
        ticket: str,
        act: Callable[[], Awaitable[str]],
        look: Callable[[], Awaitable[str | None]],
    ) -> str:
        state = self.states.get((kind, target))
        if state is not None and state.startswith("observed "):
            return state.removeprefix("observed ")
        self.states[kind, target] = "intent"
        found = await look() if state == "intent" else None
        if found is None:
            self._crash(kind, "before")
            found = await act()
            self.acts.append(kind)
            self._crash(kind, "after")
        self.states[kind, target] = f"observed {found}"
        return found

    def _crash(self, kind: str, when: str) -> None:
        if self.crash == (kind, when):
            self.crash = None
            raise Crash


class Documents:
    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    async def load(self, name: str) -> dict[str, Any]:
        return self.document


class Stage:
    """A repository with one commit of an agent's, and its verdict."""

    def __init__(self, repository: Repository, work: Work, commit: str, document: dict[str, Any]) -> None:
        self.repository, self.work, self.commit = repository, work, commit
        self.state = repository.root / ".spurline"
        self.effects, self.documents = Effects(), Documents(document)
        self.submitter = BranchSubmitter(repository, self.documents, self.effects, self.state)
        self.path = record_path(self.state, work.run, work.ticket.id)

    async def submit(self) -> str:
        return await self.submitter.submit(self.work, self.commit, "v1")


@pytest.fixture
async def stage(make_repo: MakeRepo) -> Stage:
    repository = await Repository.open(
        make_repo({"spurline.yaml": "x: 1\n", "a.py": "1\n", ".gitignore": ".spurline/\n"})
    )
    base = await repository.head()
    worktrees = Worktrees(repository, repository.root / ".spurline/worktrees", base)
    work = await worktrees.prepare("r1", Ticket(id="t1", title="T"))
    (Path(work.worktree) / "a.py").write_text("2\n")
    commit = await worktrees.commit(work, "change")
    assert commit is not None
    document = {
        "run": "r1",
        "ticket": "t1",
        "commit": commit,
        "base": base,
        "tree": await repository.tree(commit),
        "conclusion": "verified",
        "reason": "all well",
        "evidence": None,
        "evidence_digest": None,
    }
    return Stage(repository, work, commit, document)


def shown(stage: Stage) -> bytes:
    """The note as the user's own git shows it."""
    argv = ["git", "notes", "--ref=spurline", "show", stage.commit]
    return subprocess.run(argv, cwd=stage.repository.root, check=True, capture_output=True).stdout


async def test_the_record_lies_with_the_run_and_on_the_commit(stage: Stage) -> None:
    assert await stage.submit() == "branch spurline/r1/t1"
    public = SigningKey.of(stage.state / "keys").public
    assert verify_file(stage.path, [public], lambda document: "verified").verified
    assert await stage.repository.note(stage.commit) == stage.path.read_bytes()
    assert [path.name for path in stage.path.parent.iterdir()] == ["record.json"]
    assert shown(stage) == stage.path.read_bytes()


async def test_again_does_nothing(stage: Stage) -> None:
    await stage.submit()
    before = stage.path.stat().st_mtime_ns
    assert await stage.submit() == "branch spurline/r1/t1"
    assert stage.path.stat().st_mtime_ns == before
    assert stage.effects.acts == ["record", "note"]


@pytest.mark.parametrize("kind", ["record", "note"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_around_an_effect_leaves_it_done_once(stage: Stage, kind: str, when: str) -> None:
    stage.effects.crash = (kind, when)
    with pytest.raises(Crash):
        await stage.submit()
    assert await stage.submit() == "branch spurline/r1/t1"
    assert stage.effects.acts == ["record", "note"]
    assert await stage.repository.note(stage.commit) == stage.path.read_bytes()


@pytest.mark.parametrize(
    ("field", "value"),
    [("conclusion", "unproven"), ("commit", "e" * 40), ("ticket", "other"), ("run", "r2"), ("base", "f" * 40)],
)
async def test_a_verdict_on_anything_else_is_refused(stage: Stage, field: str, value: str) -> None:
    stage.documents.document = {**stage.documents.document, field: value}
    with pytest.raises(CheckoutError, match="not 'verified' for commit"):
        await stage.submit()
    assert not stage.path.exists()
    assert await stage.repository.note(stage.commit) is None


async def test_a_branch_that_moved_after_the_verdict_is_refused(stage: Stage) -> None:
    await stage.repository.move_branch(stage.work.branch, stage.work.base, stage.commit)
    with pytest.raises(CheckoutError, match="no longer at"):
        await stage.submit()
    assert not stage.path.exists()


async def test_a_branch_that_is_gone_is_refused(stage: Stage) -> None:
    stage.work = replace(stage.work, branch="spurline/r1/none")
    with pytest.raises(CheckoutError, match="is at nothing"):
        await stage.submit()
