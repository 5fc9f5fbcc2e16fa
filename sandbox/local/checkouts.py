"""Checkouts: the tree of one commit in a folder that only the driver's own processes use.

One commit is checked out once, however many services run from it, and is removed when the last one has stopped.
What builds gets a checkout of its own, so that a build never changes files under somebody else.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.local.git import Git
from sandbox.local.together import unsplit
from tasks.errors import CheckoutError, SandboxError


@dataclass(frozen=True, slots=True)
class Checkout:
    """A holder's claim on a folder; to be given back once."""

    commit: str
    root: Path
    """Where the project's own root is: what paths of services are relative to."""
    folder: Path


@dataclass(slots=True, eq=False)
class _Entry:
    folder: Path
    made: asyncio.Task[None]
    holders: int = 0
    linking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Checkouts:
    """All checkouts of one driver, below `folder` (mode 0700)."""

    def __init__(self, git: Git, folder: Path) -> None:
        self._git, self._folder = git, folder
        self._entries: dict[str, _Entry] = {}
        self._shared: dict[str, str] = {}
        self._numbers = itertools.count(1)

    async def take(self, commit: str, *, links: Iterable[str] = (), private: bool = False) -> Checkout:
        """A checkout of the commit (full id) with the untracked folders `links` of the user's work tree in it.

        CheckoutError if the commit or a link does not exist; SandboxError if it cannot be written.
        """
        entry = self._entry(commit, private=private)
        entry.holders += 1
        checkout = Checkout(commit=commit, root=entry.folder / self._git.prefix, folder=entry.folder)
        try:
            await asyncio.shield(entry.made)
            async with entry.linking:
                for link in links:
                    self._link(checkout.root, entry.folder, link)
        except BaseException:
            await unsplit(self.give_back(checkout))
            raise
        return checkout

    async def give_back(self, checkout: Checkout) -> None:
        """Let go of it; the folder goes with its last holder."""
        entry = self._entries[checkout.folder.name]
        entry.holders -= 1
        if entry.holders > 0:
            return
        self._forget(checkout)
        entry.made.cancel()
        await asyncio.wait([entry.made])
        await asyncio.to_thread(shutil.rmtree, entry.folder, ignore_errors=True)

    async def sweep(self) -> tuple[str, ...]:
        """Remove folders that belong to no checkout; their paths."""
        strangers = [path for path in self._folder.glob("*") if path.name not in self._entries]
        for path in strangers:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        return tuple(map(str, strangers))

    def _entry(self, commit: str, *, private: bool) -> _Entry:
        if not private and commit in self._shared:
            return self._entries[self._shared[commit]]
        name = f"{commit[:12]}-{next(self._numbers)}"
        made = asyncio.create_task(self._make(commit, self._folder / name), name=f"checkout of {commit[:12]}")
        entry = self._entries[name] = _Entry(folder=self._folder / name, made=made)
        if not private:
            self._shared[commit] = name
        return entry

    def _forget(self, checkout: Checkout) -> None:
        name = checkout.folder.name
        del self._entries[name]
        if self._shared.get(checkout.commit) == name:
            del self._shared[checkout.commit]

    async def _make(self, commit: str, folder: Path) -> None:
        try:
            await self._git.materialise(commit, folder)
        except OSError as error:
            raise SandboxError(
                f"commit {commit[:12]} cannot be checked out to {str(folder)!r}: {error.strerror}",
                hint="free some space" if error.errno in (28, 122) else "the state folder must be writable",
            ) from error

    def _link(self, root: Path, folder: Path, link: str) -> None:
        """Symlink an untracked folder into the checkout. What the commit itself has there stays."""
        place = root / link
        if place.is_symlink() or place.exists():
            return
        if self._git.worktree is None:
            raise CheckoutError(
                f"link {link!r} cannot be made: {str(self._git.repo)!r} is bare and has no untracked folders",
                hint="run Spurline from a work tree, or let `build:` make the folder",
            )
        target = self._git.worktree / self._git.prefix / link
        if not target.exists():
            raise CheckoutError(
                f"link {link!r} names {str(target)!r}, which does not exist",
                hint="create it (install the dependencies there), or take it out of `link:`",
            )
        if not place.parent.resolve().is_relative_to(folder.resolve()):
            raise CheckoutError(f"link {link!r} would lie outside of the checkout: a folder of it is a symlink")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
