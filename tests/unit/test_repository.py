"""The repository: refusals with a way out, differences between commits, exports, notes; and no code of its config."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.repository import Change, Repository
from sandbox.git import GitFailed
from tasks.errors import CheckoutError

MakeRepo = Callable[[Mapping[str, str]], Path]
FILES = {"spurline.yaml": "project: x\n", "a/app.py": "one\n", "b/app.py": "two\n", ".gitignore": ".spurline/\n*.log\n"}


def git(root: Path, *args: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.invalid")
    return subprocess.run(
        ["git", *identity, *args], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


async def refusal(root: Path) -> CheckoutError:
    with pytest.raises(CheckoutError) as caught:
        await Repository.open(root)
    assert caught.value.hint
    return caught.value


async def test_no_repository(tmp_path: Path) -> None:
    assert "is not a git repository" in (await refusal(tmp_path)).message


async def test_bare_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare")
    assert "bare" in (await refusal(tmp_path)).message


async def test_no_commit_yet(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert "has no commit yet" in (await refusal(tmp_path)).message


async def test_not_the_root(make_repo: MakeRepo) -> None:
    root = make_repo(FILES)
    assert "is not the root" in (await refusal(root / "a")).message


async def test_settings_not_committed(make_repo: MakeRepo) -> None:
    root = make_repo({"a": "1"})
    (root / "spurline.yaml").write_text("project: x\n")
    assert "not committed" in (await refusal(root)).message


async def test_settings_changed_since_the_commit(make_repo: MakeRepo) -> None:
    root = make_repo(FILES)
    (root / "spurline.yaml").write_text("project: y\n")
    assert "not as it is in the commit" in (await refusal(root)).message


async def test_git_missing(make_repo: MakeRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_repo(FILES)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "git is not installed" in (await refusal(root)).message


async def test_state_folder_cannot_be_made(make_repo: MakeRepo) -> None:
    root = make_repo(FILES)
    (root / ".spurline").write_text("in the way")
    assert ".spurline" in (await refusal(root)).message


async def test_dirty_names_changed_and_untracked_paths_only(make_repo: MakeRepo) -> None:
    root = make_repo(FILES)
    repository = await Repository.open(root)
    assert await repository.dirty() == ()
    (root / "a/app.py").write_text("changed\n")
    (root / "new.txt").write_text("new\n")
    (root / "noise.log").write_text("ignored\n")
    (root / "b/app.py").unlink()
    assert await repository.dirty() == ("a/app.py", "b/app.py", "new.txt")


async def test_a_touched_file_is_not_dirty(make_repo: MakeRepo) -> None:
    root = make_repo(FILES)
    os.utime(root / "a/app.py", (1, 1))
    repository = await Repository.open(root)
    assert await repository.dirty() == ()


async def test_changed_between_commits(make_repo: MakeRepo) -> None:
    root = make_repo({**FILES, "odd name é\n.txt": "x"})
    repository = await Repository.open(root)
    base = await repository.head()
    git(root, "mv", "a/app.py", "a/main.py")
    (root / "b/app.py").write_text("other\n")
    (root / "odd name é\n.txt").unlink()
    (root / "b/link é").symlink_to("../a/é\n")
    git(root, "add", "-A")
    git(root, "update-index", "--add", "--cacheinfo", f"160000,{base},b/other")
    git(root, "commit", "-qm", "second")
    commit = await repository.resolve("main")
    assert set(await repository.changed(base, commit)) == {
        Change("b/other", "added", submodule=True),
        Change("b/link é", "added", link="../a/é\n"),
        Change("a/app.py", "deleted"),
        Change("a/main.py", "added"),
        Change("b/app.py", "modified"),
        Change("odd name é\n.txt", "deleted"),
    }
    assert await repository.show(base, "b/app.py") == b"two\n"
    assert await repository.is_ancestor(base, commit)
    assert not await repository.is_ancestor(commit, base)


async def test_unknown_revision(make_repo: MakeRepo) -> None:
    repository = await Repository.open(make_repo(FILES))
    with pytest.raises(CheckoutError, match="'nope' is no commit"):
        await repository.resolve("nope")
    with pytest.raises(CheckoutError, match="is no commit"):
        await repository.resolve("--all")


async def test_export_is_the_commit_and_leaves_nothing_else(make_repo: MakeRepo, tmp_path: Path) -> None:
    root = make_repo(FILES)
    repository = await Repository.open(root)
    base = await repository.head()
    (root / "a/app.py").write_text("dirty\n")
    folder = tmp_path / "out" / "tree"
    await repository.export(base, folder)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(FILES)
    assert (folder / "a/app.py").read_text() == "one\n"
    assert not list((root / ".spurline").rglob("index.*"))


async def test_notes_are_kept_byte_for_byte(make_repo: MakeRepo) -> None:
    repository = await Repository.open(make_repo(FILES))
    head = await repository.head()
    assert await repository.note(head) is None
    await repository.attach_note(head, b'{"a":1}  \n\n')
    await repository.attach_note(head, b'{"a":2}  \n\n')
    assert await repository.note(head) == b'{"a":2}  \n\n'


async def test_branches_move_only_from_where_they_were(make_repo: MakeRepo) -> None:
    repository = await Repository.open(make_repo(FILES))
    head = await repository.head()
    assert await repository.branch("x/y") is None
    await repository.move_branch("x/y", head, None)
    with pytest.raises(CheckoutError):
        await repository.move_branch("x/y", head, "1" * 40)
    await repository.drop_branch("x/y", head)
    assert await repository.branch("x/y") is None


async def test_configuration_of_the_repository_runs_nothing(make_repo: MakeRepo, tmp_path: Path) -> None:
    root = make_repo({**FILES, ".gitattributes": "*.py filter=evil diff=evil\n"})
    trap = tmp_path / "trap.sh"
    marker = tmp_path / "ran"
    trap.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.smudge", "diff.evil.textconv", "diff.external"):
        git(root, "config", key, str(trap))
    hooks = root / ".git" / "hooks"
    for name in ("post-checkout", "reference-transaction", "pre-commit", "post-index-change"):
        shutil.copy(trap, hooks / name)
    repository = await Repository.open(root)
    head = await repository.head()
    (root / "a/app.py").write_text("other\n")
    await repository.dirty()
    await repository.export(head, tmp_path / "out")
    await repository.move_branch("new", head, None)
    await repository.attach_note(head, b"note")
    await repository.changed(head, head)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("words", "full"),
    [
        ("error: unable to write file a/app.py\nerror: unable to write file b/app.py", True),
        ("fatal: sha1 file '/r/index.lock' write error. Out of diskspace", True),
        ("error: failed to write new configuration file /r/git/config.lock", True),
        ("error: unable to write symref for HEAD: No space left on device", True),
        ("error: unable to write file /r/refs/heads/main: Permission denied", False),
        ("fatal: not a git repository", False),
    ],
)
def test_what_git_says_of_a_full_disk(words: str, full: bool) -> None:
    assert GitFailed(words, ("read-tree",)).disk_is_full is full
