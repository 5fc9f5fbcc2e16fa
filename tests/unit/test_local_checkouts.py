"""Checkouts are the commit's tree, shared by commit, removed with the last holder, spare or not."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.local.checkouts import Checkouts
from sandbox.local.git import Git
from sandbox.sample import Sample, make_sample
from tasks.errors import CheckoutError


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_sample(tmp_path / "repo")


@pytest.fixture
async def checkouts(sample: Sample, tmp_path: Path) -> AsyncIterator[Checkouts]:
    git = Git(sample.repo, tmp_path / "git")
    await git.open()
    made = Checkouts(git, tmp_path / "checkouts")
    yield made
    await made.drop_spare()
    assert list((tmp_path / "checkouts").glob("*")) == []
    assert list((tmp_path / "git").glob("index.*")) == []


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def expected(sample: Sample, commit: str) -> dict[str, str]:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=sample.repo, check=True, capture_output=True, text=True)
        return done.stdout

    return {name: git("show", f"{commit}:{name}") for name in git("ls-tree", "-r", "--name-only", commit).split()}


def commit_attributes(sample: Sample, text: str) -> None:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.invalid")
    (sample.repo / "b/.gitattributes").write_text(text)
    for words in (["add", "--all"], [*identity, "commit", "--quiet", "--message", "attributes"]):
        subprocess.run(["git", *words], cwd=sample.repo, check=True, capture_output=True)


async def test_one_commit_is_checked_out_once(checkouts: Checkouts, sample: Sample) -> None:
    first, second = await asyncio.gather(checkouts.take(sample.base), checkouts.take(sample.base))
    private = await checkouts.take(sample.base, private=True)
    assert first.root == second.root != private.root
    assert tree(first.root) == tree(private.root) == expected(sample, sample.base)
    await checkouts.give_back(first)
    assert second.root.exists()
    await checkouts.give_back(second)
    await checkouts.give_back(private)
    assert not second.root.exists()


async def test_the_baseline_shares_no_checkout_with_forks(checkouts: Checkouts, sample: Sample) -> None:
    taken = [await checkouts.take(sample.base, baseline=baseline) for baseline in (True, False, True, False)]
    assert taken[0].root == taken[2].root != taken[1].root == taken[3].root
    for checkout in taken:
        await checkouts.give_back(checkout)


async def test_a_spare_becomes_exactly_the_commit(checkouts: Checkouts, sample: Sample) -> None:
    for commit in (sample.changed, sample.crashing, sample.base):
        checkouts.keep_spare(sample.base)
        assert checkouts._sparing is not None
        await checkouts._sparing
        assert checkouts._spare is not None
        spare = checkouts._spare.folder
        checkout = await checkouts.take(commit, private=True)
        assert not spare.exists()
        assert checkouts._spare is None
        assert tree(checkout.root) == expected(sample, commit)
        await checkouts.give_back(checkout)


async def test_a_spare_is_passed_over_where_files_would_be_written_otherwise(
    checkouts: Checkouts, sample: Sample
) -> None:
    commit_attributes(sample, "app.py text eol=crlf\n")
    checkouts.keep_spare(sample.base)
    assert checkouts._sparing is not None
    await checkouts._sparing
    taken = await checkouts.take(await checkouts._git.resolve("HEAD"))
    assert b"\r\n" in (taken.root / "b/app.py").read_bytes()
    await checkouts.give_back(taken)


async def test_a_spare_that_is_of_no_use_is_passed_over(checkouts: Checkouts, sample: Sample) -> None:
    checkouts.keep_spare(sample.base)
    assert checkouts._sparing is not None
    await checkouts._sparing
    assert checkouts._spare is not None
    (checkouts._spare.folder / "b/word.txt").write_text("somebody was here")
    checkout = await checkouts.take(sample.changed)
    assert tree(checkout.root) == expected(sample, sample.changed)
    await checkouts.give_back(checkout)


async def test_a_spare_is_no_stranger_and_other_folders_are(checkouts: Checkouts, sample: Sample) -> None:
    checkout = await checkouts.take(sample.base)
    checkouts.keep_spare(sample.base)
    stranger = checkout.folder.parent / "stranger"
    stranger.mkdir()
    assert await checkouts.sweep() == (str(stranger),)
    await checkouts.give_back(checkout)


async def test_what_is_no_commit_leaves_nothing(checkouts: Checkouts) -> None:
    with pytest.raises(CheckoutError):
        await checkouts.take("0" * 40)


def with_link_outside(repo: Path, outside: Path) -> str:
    """A commit in which the folder `out` is a symlink to `outside`, while the work tree has a real `out/deps`."""
    (repo / "out").symlink_to(outside)
    for arguments in (["add", "out"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "out"]):
        subprocess.run(["git", *arguments], cwd=repo, check=True)
    (repo / "out").unlink()
    (repo / "out" / "deps").mkdir(parents=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repo, check=True, capture_output=True, text=True)
    return head.stdout.strip()


async def test_a_link_does_not_leave_the_checkout(checkouts: Checkouts, sample: Sample, tmp_path: Path) -> None:
    commit = with_link_outside(sample.repo, tmp_path)
    with pytest.raises(CheckoutError, match="outside of the checkout"):
        await checkouts.take(commit, links=["out/deps"])
    assert not (tmp_path / "deps").exists()


async def test_a_folder_that_is_a_link_to_itself_is_told(checkouts: Checkouts, sample: Sample) -> None:
    commit = with_link_outside(sample.repo, Path("out"))
    with pytest.raises(CheckoutError, match="cannot be made in the checkout"):
        await checkouts.take(commit, links=["out/deps"])
