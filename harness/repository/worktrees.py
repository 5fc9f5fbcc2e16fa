"""A worktree an agent: made from the base commit, committed after each turn, found again after a crash.

What an agent can write to is only files: the commit is made through our own metadata, whatever stands in the worktree's
`.git`. A worktree counts as made when its mark, which lies outside of it, says so; any other is made anew.

The mark also has the generation of the claim under which the worktree was last taken up. Whoever takes it up writes
that under the repository's lock, under which branches are moved as well: so a worker whose ticket was taken up by
another one, and that does not know yet, commits nothing and removes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphs.ports import Claim, LeaseLost, Work, attempt_name, unclaimed
from harness.repository.repository import Repository
from tasks.errors import CheckoutError
from tasks.ticket import Ticket

_GITLINK = "160000"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one worktree and what belongs to it lie."""

    folder: Path
    branch: str
    mark: Path


class Worktrees:
    """Fulfils `graphs.ports.Workspaces` for the runs on one base commit.

    `folder` is where the worktrees go (`.spurline/worktrees`); branches are `spurline/<run>/<ticket>`.
    """

    def __init__(self, repository: Repository, folder: Path, base: str, claim: Claim = unclaimed) -> None:
        self._repository, self._folder, self.base, self._claim = repository, folder, base, claim

    async def prepare(self, run: str, ticket: Ticket, attempt: int = 1, carries_on: int = 0) -> Work:
        """The worktree of the ticket, made where it is not there yet: with the last commit of the attempt `carries_on`,
        where there is one. What a killed run committed is kept. From here on nobody writes who had the ticket before.

        A making that fails or is cancelled leaves nothing. Raises LeaseLost, as `commit` and `release` do.
        """
        work = self.work(run, ticket, attempt)
        place = self._place(run, work.name)
        async with self._repository.lock.held():
            mine, metadata = self._prove(work, place), self._metadata(place)
            if metadata is not None:
                if mine is not None:
                    _mark(place, mine, metadata)
                return work
            try:
                metadata, commit = await self._add_worktree(place, await self._start(run, ticket, carries_on))
                _mark(place, mine or 0)
            except BaseException:
                with contextlib.suppress(CheckoutError):
                    await asyncio.shield(self._undo(place))
                raise
        # Most of the work touches nothing but this worktree: nobody's commit has to wait for it.
        try:
            await self._fill(work, place, metadata, commit)
            async with self._repository.lock.held():
                _mark(place, self._prove(work, place) or 0, metadata)
        except BaseException:
            with contextlib.suppress(CheckoutError, LeaseLost):
                await asyncio.shield(self.release(work))
            raise
        return work

    def work(self, run: str, ticket: Ticket, attempt: int = 1) -> Work:
        """Where the ticket is worked, or was: nothing is made."""
        place = self._place(run, attempt_name(ticket.id, attempt))
        return Work(
            run=run,
            ticket=ticket,
            branch=place.branch,
            base=self.base,
            worktree=str(place.folder),
            sandbox=sandbox_name(run, ticket.id, attempt),
            attempt=attempt,
        )

    async def commit(self, work: Work, message: str) -> str | None:
        """Commit all of the worktree but ignored files; the branch's head, or None when it equals the base's tree."""
        place = self._place(work.run, work.name)
        self._prove(work, place)
        metadata = self._metadata(place)
        if metadata is None:
            raise CheckoutError(f"the worktree {str(place.folder)!r} is gone", hint="retry the ticket")
        await self._commit_all(work, place, metadata, message)
        head = await self._repository.branch(place.branch)
        assert head is not None
        trees = await asyncio.gather(self._repository.tree(head), self._repository.tree(work.base))
        return None if trees[0] == trees[1] else head

    async def _commit_all(self, work: Work, place: _Place, metadata: Path, message: str) -> str | None:
        """A new commit on the branch with all of the worktree; None when that equals what the branch has already."""
        git, index = self._repository.git, metadata / "index"
        # A git command of the agent's that was killed leaves its lock, and nobody else uses this index.
        (metadata / "index.lock").unlink(missing_ok=True)
        await self._fence_submodules(place, index)
        await self._add(place, index)
        await self._fence_submodules(place, index)
        tree = (await git.own("write-tree", index=index)).decode().strip()
        old = await self._repository.branch(place.branch)
        # Only what descends from the base is handed over, wherever the branch was moved to.
        sound = old is not None and await self._repository.is_ancestor(self.base, old)
        parent = old if sound and old is not None else self.base
        if tree == await self._repository.tree(parent) and parent == old:
            return None
        made = await git.own("commit-tree", "--no-gpg-sign", tree, "-p", parent, data=message.encode())
        commit = made.decode().strip()
        async with self._repository.lock.held():
            self._prove(work, place)
            await self._repository.move_branch(place.branch, commit, old)
        return commit

    async def knows(self, commit: str) -> bool:
        """Whether the commit is in this repository."""
        try:
            await self._repository.tree(commit)
        except CheckoutError:
            return False
        return True

    async def tree(self, commit: str) -> str:
        """The sha of what the commit holds."""
        return await self._repository.tree(commit)

    async def release(self, work: Work) -> None:
        """Remove the worktree; the branch stays unless nothing was ever committed on it."""
        place = self._place(work.run, work.name)
        empty = await self._is_empty(place)
        async with self._repository.lock.held():
            self._prove(work, place)
            await self._remove(place, empty=empty)

    def _prove(self, work: Work, place: _Place) -> int | None:
        """The generation of our claim; LeaseLost where another worker has taken the worktree up since."""
        mine = self._claim(work.ticket.id)
        if mine is not None and int(_marked(place).get("generation", 0)) > mine:
            raise LeaseLost(work.ticket.id)
        return mine

    async def _remove(self, place: _Place, *, empty: bool) -> None:
        await self._clear(place)
        if empty:
            await self._repository.drop_branch(place.branch, self.base)

    async def _is_empty(self, place: _Place) -> bool:
        """Whether nothing was ever committed on the branch."""
        return await self._repository.branch(place.branch) == self.base

    async def _undo(self, place: _Place) -> None:
        await self._remove(place, empty=await self._is_empty(place))

    async def _start(self, run: str, ticket: Ticket, carries_on: int) -> str:
        """The commit that an attempt begins with."""
        if not carries_on:
            return self.base
        last = await self._repository.branch(self._place(run, attempt_name(ticket.id, carries_on)).branch)
        # An agent can move a branch; only what descends from the base is ours.
        return last if last is not None and await self._repository.is_ancestor(self.base, last) else self.base

    async def _add_worktree(self, place: _Place, start: str) -> tuple[Path, str]:
        """An empty worktree; its metadata, and the commit that is to be in it."""
        if place.folder.exists() or place.mark.exists():
            await self._clear(place)
        place.folder.parent.mkdir(parents=True, exist_ok=True)
        git = self._repository.git
        head = await self._repository.branch(place.branch)
        # Without a checkout: git's own would run the filters of the repository's configuration.
        add = ["worktree", "add", "--quiet", "--no-checkout", "--force", "--force"]
        if head is None:
            await git.user(*add, "--no-track", "-b", place.branch, str(place.folder), start)
        else:
            await git.user(*add, str(place.folder), place.branch)
        metadata = Path((place.folder / ".git").read_text().removeprefix("gitdir:").strip())
        return metadata, head or start

    async def _fill(self, work: Work, place: _Place, metadata: Path, commit: str) -> None:
        """Write the commit's files into the empty worktree."""
        git, index = self._repository.git, metadata / "index"
        for step in (("read-tree", commit), ("checkout-index", "--all", "--quiet", "--force", "--index")):
            # Who took the ticket up since has made the worktree anew, in the same place.
            self._prove(work, place)
            await git.own(*step, index=index, tree=place.folder)

    async def _clear(self, place: _Place) -> None:
        place.mark.unlink(missing_ok=True)
        await asyncio.to_thread(shutil.rmtree, place.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            # The last of a run takes the run's folder along: under the lock no other ticket is about to use it.
            place.folder.parent.rmdir()
        # `--force --force` of a later add overrides the lock of a worktree whose making was killed.
        await self._repository.git.user("worktree", "prune", "--expire=now")

    def _metadata(self, place: _Place) -> Path | None:
        try:
            metadata = Path(_marked(place)["metadata"])
        except KeyError:
            return None
        return metadata if metadata.is_dir() and place.folder.is_dir() else None

    async def _add(self, place: _Place, index: Path) -> None:
        add = ("add", "--all", "--", ":/")
        try:
            await self._repository.git.own(*add, index=index, tree=place.folder)
        except CheckoutError as error:
            if "does not have a commit checked out" not in error.message:
                raise
            # An empty repository inside of the worktree: git refuses the whole command for it.
            nested = await asyncio.to_thread(_nested, place.folder)
            excludes = [f":(exclude,top,literal){path}" for path in nested]
            await self._repository.git.own(*add, *excludes, index=index, tree=place.folder)

    async def _fence_submodules(self, place: _Place, index: Path) -> None:
        """Keep git out of repositories inside of the worktree: it would run with their configuration."""
        listed = await self._repository.git.own("ls-files", "-z", "--stage", index=index, tree=place.folder)
        entries = [line.split("\t", 1) for line in listed.decode(errors="surrogateescape").split("\0") if line]
        links = {path for head, path in entries if head.startswith(_GITLINK)}
        if not links:
            return
        known = await self._repository.git.own("ls-tree", "-r", "-z", self.base)
        old = {line.split("\t", 1)[1] for line in known.decode().split("\0") if line.startswith(_GITLINK)}
        for option, paths in (("--skip-worktree", links & old), ("--force-remove", links - old)):
            if paths:
                data = "".join(f"{path}\0" for path in sorted(paths)).encode(errors="surrogateescape")
                await self._repository.git.own(
                    "update-index", option, "-z", "--stdin", index=index, tree=place.folder, data=data
                )

    def _place(self, run: str, name: str) -> _Place:
        folder = self._folder / run / name
        return _Place(folder, f"spurline/{run}/{name}", self._folder / run / f".{name}.json")


def sandbox_name(run: str, ticket: str, attempt: int = 1) -> str:
    """The name of an agent's sandbox: file-name safe, the same after a resume, of one run and attempt only."""
    return f"{ticket}-{hashlib.sha256(attempt_name(run, attempt).encode()).hexdigest()[:6]}"


def _nested(folder: Path) -> list[str]:
    """Folders below `folder` that are repositories of their own, relative to it."""
    found = []
    for path, names, files in os.walk(folder):
        if ".git" in (*names, *files) and Path(path) != folder:
            found.append(Path(path).relative_to(folder).as_posix())
            names.clear()
    return found


def _marked(place: _Place) -> dict[str, Any]:
    """What the worktree's mark says; nothing where there is none."""
    try:
        said = json.loads(place.mark.read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _mark(place: _Place, generation: int, metadata: Path | None = None) -> None:
    """Put the mark in its place, whole or not at all. Without `metadata` the worktree is being made."""
    beside = place.mark.with_name(place.mark.name + ".new")
    made = {} if metadata is None else {"metadata": str(metadata)}
    beside.write_text(json.dumps({"generation": generation, **made}))
    os.replace(beside, place.mark)  # noqa: PTH105
