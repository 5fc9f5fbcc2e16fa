"""What Spurline does with the user's repository: read commits, compare them, move branches, keep notes.

Paths are posix and relative to the repository's root; commits are full ids. A checkout is made of a commit's own blobs:
no filter (Git LFS among them) is applied to them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from harness.project import FILE_NAME, STATE_NAME
from harness.repository.git import Git, locate, make_own
from harness.repository.lock import RepositoryLock
from harness.repository.scratch import Scratch
from tasks.errors import CheckoutError

ChangeKind = Literal["added", "modified", "deleted"]
NOTES: Final = "refs/notes/spurline"
_KINDS: Final[dict[str, ChangeKind]] = {"A": "added", "D": "deleted", "M": "modified", "T": "modified"}
_SUBMODULE: Final = "160000"
_SYMLINK: Final = "120000"


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two commits. A renamed file is one deleted and one added."""

    path: str
    kind: ChangeKind
    submodule: bool = False
    """Whether it is, or was, a commit of another repository."""
    link: str | None = None
    """Where it leads, if it is a symlink now."""


class Repository:
    """One repository with a work tree; made by `open`."""

    def __init__(self, git: Git, state: Path) -> None:
        self.git = git
        self.root = git.places.top
        self.lock = RepositoryLock(state / "repository.lock")
        self._scratch = state / "scratch"

    @classmethod
    async def open(cls, root: Path, *, settled: bool = True) -> Repository:
        """The repository at `root`, ready to be worked from.

        CheckoutError, with the way out, where git is missing, `root` is no repository or a bare one or not its root,
        there is no commit yet, or (unless `settled` is false: by hand, where nothing is judged) `spurline.yaml` is not
        committed as it stands.
        """
        places = await locate(root)
        state = root / STATE_NAME / "git"
        await make_own(places, state / "own")
        repository = cls(Git(places, state / "own"), state)
        await repository.head()
        if settled:
            await repository._require_settings()
        return repository

    async def head(self) -> str:
        """The commit that is checked out in the user's work tree."""
        try:
            words = await self.git.user(
                f"--git-dir={self.git.places.git_dir}", "rev-parse", "--verify", "HEAD^{commit}"
            )
        except CheckoutError:
            raise CheckoutError(
                f"{str(self.root)!r} has no commit yet",
                hint="commit what the baseline is to run: `git add -A && git commit`",
            ) from None
        return words.decode().strip()

    async def resolve(self, revision: str) -> str:
        """The full id of the commit that `revision` names; CheckoutError if none."""
        arguments = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        try:
            words = await self.git.user(f"--git-dir={self.git.places.git_dir}", *arguments)
        except CheckoutError:
            raise CheckoutError(
                f"{revision!r} is no commit of {str(self.root)!r}",
                hint="give a branch, a tag or a commit that exists there",
            ) from None
        return words.decode().strip()

    async def tree(self, commit: str) -> str:
        """The id of the commit's tree."""
        return (await self.git.own("rev-parse", "--verify", f"{commit}^{{tree}}")).decode().strip()

    async def changed(self, base: str, commit: str) -> tuple[Change, ...]:
        """What differs between two commits, by path."""
        words = await self.git.own("diff-tree", "-r", "-z", "--no-renames", "--raw", base, commit)
        parts = words.decode(errors="surrogateescape").split("\0")
        return tuple([await self._change(said, path) for said, path in zip(parts[::2], parts[1::2], strict=False)])

    async def diff(self, base: str, commit: str) -> str:
        """What differs between two commits, as git shows it: no colours, and nobody's own program asked."""
        words = await self.git.own("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--stat", "-p", base, commit)
        return words.decode(errors="replace")

    async def files(self, commit: str) -> tuple[str, ...]:
        """Every path of the commit."""
        words = await self.git.own("ls-tree", "-r", "-z", "--name-only", commit)
        return tuple(path for path in words.decode(errors="surrogateescape").split("\0") if path)

    async def submodules(self, commit: str) -> tuple[str, ...]:
        """The paths at which the commit names a commit of another repository: empty folders in a checkout."""
        words = (await self.git.own("ls-tree", "-r", "-z", commit)).decode(errors="surrogateescape").split("\0")
        return tuple(word.partition("\t")[2] for word in words if word.startswith(f"{_SUBMODULE} "))

    async def dirty(self) -> tuple[str, ...]:
        """Paths of the user's work tree that are not as they are in HEAD: changed, staged or untracked; not ignored."""
        index, here = self.git.places.git_dir / "index", (":/", f":(exclude){STATE_NAME}")
        diff = (
            "diff",
            "--no-ext-diff",
            "--no-textconv",
            "--no-renames",
            "--ignore-submodules=all",
            "--name-only",
            "-z",
        )
        changed = await self.git.own(*diff, await self.head(), "--", *here, index=index, tree=self.root)
        others = await self.git.own(
            "ls-files", "-z", "--others", "--exclude-standard", "--", *here, index=index, tree=self.root
        )
        names = (changed + others).decode(errors="surrogateescape").split("\0")
        return tuple(sorted({name for name in names if name}))

    async def show(self, commit: str, path: str) -> bytes:
        """The content of one file of a commit; CheckoutError if it is not there."""
        return await self.git.own("cat-file", "blob", f"{commit}:{path}")

    async def export(self, commit: str, folder: Path) -> None:
        """Write the commit's whole tree below `folder`, which must not exist yet. No metadata is left anywhere."""
        folder.mkdir(parents=True, mode=0o700)
        scratch = Scratch.make(self._scratch, "index")
        index = scratch.path / "index"
        try:
            await self.git.own("read-tree", commit, index=index)
            await self.git.own("checkout-index", "--all", "--quiet", f"--prefix={folder}/", index=index, tree=folder)
        finally:
            scratch.remove()

    @asynccontextmanager
    async def exported(self, commit: str) -> AsyncIterator[Path]:
        """The commit's tree in a folder that is gone after the block."""
        scratch = Scratch.make(self._scratch, "tree")
        try:
            await self.export(commit, scratch.path / "tree")
            yield scratch.path / "tree"
        finally:
            await asyncio.to_thread(scratch.remove)

    async def branch(self, name: str) -> str | None:
        """The commit that a branch points to, or None where there is no such branch."""
        words = await self.git.user("for-each-ref", "--format=%(objectname)", f"refs/heads/{name}")
        return words.decode().strip() or None

    async def move_branch(self, name: str, commit: str, old: str | None) -> None:
        """Point the branch to `commit`; CheckoutError unless it is at `old` (None: does not exist) until then."""
        await self.git.user("update-ref", f"refs/heads/{name}", commit, old or "0" * len(commit))

    async def drop_branch(self, name: str, old: str) -> None:
        """Remove the branch; CheckoutError unless it is at `old`."""
        await self.git.user("update-ref", "-d", f"refs/heads/{name}", old)

    async def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `new` descends from `old`, or is it."""
        return not await self.git.own("rev-list", "--max-count=1", old, f"^{new}")

    async def fork_point(self, commit: str) -> str:
        """Where `commit` left the main line (`origin/HEAD`, `main` or `master`); its parent where it is on that line.

        CheckoutError where it has neither.
        """
        for line in ("origin/HEAD", "main", "master"):
            try:
                tip = await self.resolve(line)
                words = await self.git.user(f"--git-dir={self.git.places.git_dir}", "merge-base", commit, tip)
            except CheckoutError:
                continue
            if (found := words.decode().strip()) != commit:
                return found
        try:
            return await self.resolve(f"{commit}^")
        except CheckoutError:
            raise CheckoutError(
                f"commit {commit[:12]} has nothing to be compared with", hint="name its base with --base"
            ) from None

    async def note(self, commit: str) -> bytes | None:
        """The note of Spurline's that is attached to the commit."""
        listed = (await self.git.user("notes", f"--ref={NOTES}", "list")).decode().split()
        if commit not in listed[1::2]:
            return None
        blob = dict(zip(listed[1::2], listed[::2], strict=True))[commit]
        return await self.git.own("cat-file", "blob", blob)

    async def attach_note(self, commit: str, content: bytes) -> None:
        """Attach `content`, byte for byte, to the commit as a note; another one gives way."""
        blob = (await self.git.own("hash-object", "-w", "--stdin", data=content)).decode().strip()
        async with self.lock.held():
            await self.git.user("notes", f"--ref={NOTES}", "add", "--force", "-C", blob, commit)

    async def _change(self, said: str, path: str) -> Change:
        """A path of `diff-tree --raw`, with what that says of it: `:OLDMODE NEWMODE OLDID NEWID KIND`."""
        old, new, _, blob, kind = said.removeprefix(":").split(" ")
        link = os.fsdecode(await self.git.own("cat-file", "blob", blob)) if new == _SYMLINK else None
        return Change(path, _KINDS[kind[0]], submodule=_SUBMODULE in (old, new), link=link)

    async def _require_settings(self) -> None:
        if FILE_NAME not in await self.files(await self.head()):
            problem = f"{FILE_NAME} is not committed"
        elif FILE_NAME in await self.dirty():
            problem = f"{FILE_NAME} is not as it is in the commit"
        else:
            return
        raise CheckoutError(
            problem,
            hint=f"the baseline runs from a commit, never from the work tree: `git add {FILE_NAME} && git commit`",
        )
