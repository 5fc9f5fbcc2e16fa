"""Worktrees: made once, found again, committed whatever the agent did to their metadata."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from graphs.ports import LeaseLost, Work
from harness.repository import Repository, Worktrees
from tasks.errors import CheckoutError
from tasks.ticket import Ticket

MakeRepo = Callable[[Mapping[str, str]], Path]
FILES = {"spurline.yaml": "project: x\n", "a/app.py": "one\n", ".gitignore": ".spurline/\n*.log\n"}


def git(root: Path, *args: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.invalid")
    return subprocess.run(
        ["git", *identity, *args], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def ticket(name: str = "t1") -> Ticket:
    return Ticket(id=name, title="A ticket")


@pytest.fixture
async def repository(make_repo: MakeRepo) -> Repository:
    return await Repository.open(make_repo(FILES))


@pytest.fixture
async def worktrees(repository: Repository) -> Worktrees:
    return Worktrees(repository, repository.root / ".spurline/worktrees", await repository.head())


async def test_prepare_commit_release(repository: Repository, worktrees: Worktrees) -> None:
    work = await worktrees.prepare("r1", ticket())
    folder = Path(work.worktree)
    assert work.branch == "spurline/r1/t1"
    assert (folder / "a/app.py").read_text() == "one\n"
    assert git(folder, "status", "--porcelain") == ""
    assert await worktrees.commit(work, "nothing") is None

    (folder / "a/app.py").write_text("two\n")
    (folder / "new.py").write_text("new\n")
    (folder / "noise.log").write_text("ignored\n")
    commit = await worktrees.commit(work, "Change a\n\nBody")
    assert commit == await repository.branch(work.branch) == git(folder, "rev-parse", "HEAD")
    assert git(folder, "status", "--porcelain") == ""
    assert {change.path for change in await repository.changed(work.base, commit)} == {"a/app.py", "new.py"}
    assert git(folder, "log", "-1", "--format=%an|%s|%P") == f"Spurline agent|Change a|{work.base}"
    assert await worktrees.commit(work, "again") == commit

    await worktrees.release(work)
    assert not folder.exists()
    assert await repository.branch(work.branch) == commit
    assert str(folder) not in git(repository.root, "worktree", "list")
    await worktrees.release(work)


async def test_a_change_taken_back_equals_the_base(worktrees: Worktrees) -> None:
    work = await worktrees.prepare("r1", ticket())
    path = Path(work.worktree) / "a/app.py"
    path.write_text("two\n")
    assert await worktrees.commit(work, "there") is not None
    path.write_text("one\n")
    assert await worktrees.commit(work, "and back") is None


async def test_release_drops_a_branch_without_commits(repository: Repository, worktrees: Worktrees) -> None:
    work = await worktrees.prepare("r1", ticket())
    await worktrees.release(work)
    assert await repository.branch(work.branch) is None


async def test_prepare_finds_what_is_there(repository: Repository, worktrees: Worktrees) -> None:
    work = await worktrees.prepare("r1", ticket())
    (Path(work.worktree) / "half.py").write_text("half\n")
    other = Worktrees(await Repository.open(repository.root), repository.root / ".spurline/worktrees", work.base)
    assert await other.prepare("r1", ticket()) == work
    assert (Path(work.worktree) / "half.py").exists()


async def test_prepare_mends_a_making_that_was_killed(repository: Repository, worktrees: Worktrees) -> None:
    work = await worktrees.prepare("r1", ticket())
    folder = Path(work.worktree)
    (folder / "a/app.py").write_text("two\n")
    commit = await worktrees.commit(work, "kept")
    # As it stands when `git worktree add` was killed half way: locked, files missing, no mark of ours.
    (folder.parent / ".t1.json").unlink()
    git(folder, "worktree", "lock", str(folder))
    (folder / "a/app.py").unlink()
    assert await worktrees.prepare("r1", ticket()) == work
    assert (folder / "a/app.py").read_text() == "two\n"
    assert await worktrees.commit(work, "nothing new") == commit


async def test_prepare_mends_a_removal_that_was_killed(repository: Repository, worktrees: Worktrees) -> None:
    work = await worktrees.prepare("r1", ticket())
    folder = Path(work.worktree)
    (folder / "a/app.py").write_text("two\n")
    commit = await worktrees.commit(work, "kept")
    # The files are gone, and git was not told yet.
    (folder.parent / ".t1.json").unlink()
    shutil.rmtree(folder)
    assert await worktrees.prepare("r1", ticket()) == work
    assert (folder / "a/app.py").read_text() == "two\n"
    assert await worktrees.commit(work, "nothing new") == commit
    assert git(repository.root, "worktree", "list").count("\n") == 1


async def test_many_at_once(worktrees: Worktrees) -> None:
    works = await asyncio.gather(*(worktrees.prepare("r1", ticket(f"t{n}")) for n in range(12)))

    async def change(work: Work) -> str | None:
        (Path(work.worktree) / "a/app.py").write_text(work.ticket.id)
        return await worktrees.commit(work, work.ticket.id)

    commits = await asyncio.gather(*(change(work) for work in works))
    assert None not in commits
    assert len(set(commits)) == 12
    assert len({work.sandbox for work in works}) == 12


async def test_the_last_worktree_of_a_run_takes_its_folder_along(repository: Repository, worktrees: Worktrees) -> None:
    other = Worktrees(await Repository.open(repository.root), repository.root / ".spurline/worktrees", worktrees.base)

    async def come_and_go(name: str, through: Worktrees) -> None:
        for _ in range(3):
            await through.release(await through.prepare("r1", ticket(name)))

    stays = await worktrees.prepare("r1", ticket("stays"))
    folder = Path(stays.worktree).parent
    await asyncio.gather(*(come_and_go(f"t{n}", (worktrees, other)[n % 2]) for n in range(6)))
    assert sorted(path.name for path in folder.iterdir()) == [".stays.json", "stays"]
    await worktrees.release(stays)
    assert not folder.exists()
    await asyncio.gather(*(come_and_go(f"t{n}", (worktrees, other)[n % 2]) for n in range(6)))
    assert not folder.exists()


async def test_a_making_that_fails_leaves_nothing(repository: Repository, worktrees: Worktrees) -> None:
    git(repository.root, "branch", "spurline/r1")  # no branch can have a name below this one's
    with pytest.raises(CheckoutError):
        await worktrees.prepare("r1", ticket())
    assert not (repository.root / ".spurline/worktrees/r1").exists()


async def test_a_making_that_is_called_off_leaves_nothing(repository: Repository, worktrees: Worktrees) -> None:
    folder = repository.root / ".spurline/worktrees/r1"
    making = asyncio.create_task(worktrees.prepare("r1", ticket()))
    while not (folder / "t1").exists():  # noqa: ASYNC110 - git makes it
        await asyncio.sleep(0)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not folder.exists()
    assert await repository.branch("spurline/r1/t1") is None
    assert git(repository.root, "worktree", "list").count("\n") == 0
    await worktrees.release(await worktrees.prepare("r1", ticket()))


async def test_same_ticket_in_two_runs_and_two_processes(repository: Repository, worktrees: Worktrees) -> None:
    other = Worktrees(await Repository.open(repository.root), repository.root / ".spurline/worktrees", worktrees.base)
    one, two = await asyncio.gather(worktrees.prepare("r1", ticket()), other.prepare("r2", ticket()))
    assert one.worktree != two.worktree
    assert one.sandbox != two.sandbox
    assert one.branch != two.branch


async def test_the_commit_is_of_the_files_whatever_stands_in_dot_git(
    repository: Repository, worktrees: Worktrees, tmp_path: Path
) -> None:
    work = await worktrees.prepare("r1", ticket())
    folder = Path(work.worktree)
    marker = tmp_path / "ran"
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {marker}\n")
    trap.chmod(0o755)
    (folder / ".git").unlink()
    git(folder, "init", "-q")
    git(folder, "config", "core.fsmonitor", str(trap))
    (folder / "a/app.py").write_text("two\n")
    commit = await worktrees.commit(work, "c")
    assert commit is not None
    assert await repository.show(commit, "a/app.py") == b"two\n"
    assert not marker.exists()


@pytest.mark.parametrize("with_commit", [True, False])
async def test_repositories_inside_stay_out_and_run_nothing(
    repository: Repository, worktrees: Worktrees, tmp_path: Path, with_commit: bool
) -> None:
    work = await worktrees.prepare("r1", ticket())
    folder = Path(work.worktree)
    marker = tmp_path / "ran"
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {marker}\n")
    trap.chmod(0o755)
    nested = folder / "vendor" / "inner"
    nested.mkdir(parents=True)
    git(nested, "init", "-q")
    (nested / "file").write_text("x")
    if with_commit:
        git(nested, "add", "-A")
        git(nested, "commit", "-qm", "inner")
    git(nested, "config", "core.fsmonitor", str(trap))
    for content in ("two\n", "three\n"):
        (folder / "a/app.py").write_text(content)
        (nested / "file").write_text(content)
        commit = await worktrees.commit(work, "c")
        assert commit is not None
        assert [change.path for change in await repository.changed(work.base, commit)] == ["a/app.py"]
    assert not marker.exists()


async def test_a_branch_moved_away_is_put_back_on_the_base(repository: Repository, worktrees: Worktrees) -> None:
    work = await worktrees.prepare("r1", ticket())
    folder = Path(work.worktree)
    git(folder, "checkout", "-q", "--orphan", "elsewhere")
    git(folder, "commit", "-qm", "an orphan")
    git(folder, "branch", "-f", work.branch, "elsewhere")
    (folder / "a/app.py").write_text("two\n")
    commit = await worktrees.commit(work, "c")
    assert commit is not None
    assert await repository.is_ancestor(work.base, commit)


async def test_an_attempt_that_carries_on_begins_with_the_last_commit_of_the_one_before(
    repository: Repository, worktrees: Worktrees
) -> None:
    first = await worktrees.prepare("r1", ticket())
    (Path(first.worktree) / "a.txt").write_text("mine\n")
    commit = await worktrees.commit(first, "x")
    await worktrees.release(first)
    second = await worktrees.prepare("r1", ticket(), 2, 1)
    assert await worktrees.prepare("r1", ticket(), 2, 1) == second
    assert (Path(second.worktree) / "a.txt").read_text() == "mine\n"
    assert await worktrees.commit(second, "nothing new") == commit
    (Path(second.worktree) / "a.txt").write_text("mine too\n")
    assert await repository.is_ancestor(str(commit), str(await worktrees.commit(second, "y")))
    assert await repository.branch(first.branch) == commit
    await worktrees.release(second)
    # Where nothing was committed, or it was moved to what is not ours, there is only the base.
    assert await worktrees.commit(await worktrees.prepare("r1", ticket("other"), 2, 1), "x") is None


async def test_a_branch_that_was_moved_away_from_the_base_is_not_carried_on(
    repository: Repository, worktrees: Worktrees
) -> None:
    first = await worktrees.prepare("r1", ticket())
    await worktrees.release(first)
    stray = (await repository.git.own("commit-tree", await repository.tree(worktrees.base), data=b"stray")).decode()
    await repository.move_branch(first.branch, stray.strip(), None)
    second = await worktrees.prepare("r1", ticket(), 2, 1)
    assert await repository.branch(second.branch) == worktrees.base


def claimed(repository: Repository, base: str, generation: int | None) -> Worktrees:
    """The worktrees as a worker sees them whose claims are of this generation."""
    return Worktrees(repository, repository.root / ".spurline/worktrees", base, lambda _: generation)


async def test_who_had_the_ticket_before_commits_nothing_and_removes_nothing(repository: Repository) -> None:
    base = await repository.head()
    before, after = claimed(repository, base, 1), claimed(await Repository.open(repository.root), base, 2)
    work = await before.prepare("r1", ticket())
    (Path(work.worktree) / "a/app.py").write_text("two\n")
    first = await before.commit(work, "mine")
    assert await after.prepare("r1", ticket()) == work
    (Path(work.worktree) / "a/app.py").write_text("three\n")
    for late in (before.commit(work, "mine still"), before.release(work), before.prepare("r1", ticket())):
        with pytest.raises(LeaseLost):
            await late
    assert await repository.branch(work.branch) == first
    assert await after.commit(work, "mine now") == await repository.branch(work.branch) != first
    # Whoever clears up what nobody has any more shows no claim.
    await claimed(repository, base, None).release(work)
    assert not Path(work.worktree).exists()


async def test_a_commit_that_was_begun_before_another_one_took_the_ticket_is_not_made(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = await repository.head()
    before, after = claimed(repository, base, 1), claimed(await Repository.open(repository.root), base, 2)
    work = await before.prepare("r1", ticket())
    (Path(work.worktree) / "a/app.py").write_text("two\n")
    own = repository.git.own

    async def pausing(*arguments: str, **further: Any) -> bytes:
        made = await own(*arguments, **further)
        if arguments[0] == "commit-tree":
            await after.prepare("r1", ticket())
        return made

    monkeypatch.setattr(repository.git, "own", pausing)
    with pytest.raises(LeaseLost):
        await before.commit(work, "mine")
    assert await repository.branch(work.branch) == base


async def test_who_had_the_ticket_before_overwrites_no_file_of_who_made_the_worktree_anew(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = await repository.head()
    before, after = claimed(repository, base, 1), claimed(await Repository.open(repository.root), base, 2)
    own = repository.git.own
    path = Path(before.work("r1", ticket()).worktree) / "a/app.py"

    async def pausing(*arguments: str, **further: Any) -> bytes:
        made = await own(*arguments, **further)
        if arguments[0] == "read-tree":
            await after.prepare("r1", ticket())
            path.write_text("two\n")
        return made

    monkeypatch.setattr(repository.git, "own", pausing)
    with pytest.raises(LeaseLost):
        await before.prepare("r1", ticket())
    assert path.read_text() == "two\n"
