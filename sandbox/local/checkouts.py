"""Checkouts: the tree of one commit in a folder that only the driver's own processes use.

One commit is checked out once for the baseline and once for forks, however many services run from it, and is removed
when the last one has stopped: a fork, of the baseline's own commit too, never writes where the baseline runs. A service
that is forked from one commit again gets another checkout, since the first may not be the commit any more. What builds
gets one of its own, so that a build never changes files under somebody else.

A whole tree may take longer to write than a small service takes to start. So one spare tree of the baseline's commit
is kept that nothing ever ran in: the next commit takes it over and only writes the files that differ.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sandbox.local.git import Git
from sandbox.local.together import unsplit
from tasks.errors import CheckoutError, SandboxError, SpurlineError, disk_is_full

_AHEAD_S: Final = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkout:
    """A holder's claim on a folder; to be given back once."""

    commit: str
    root: Path
    """Where the project's own root is: what paths of services are relative to."""
    folder: Path
    private: bool
    """Whether nobody else has it."""
    links: tuple[Path, ...] = ()
    """The untracked folders of the user's work tree that are linked into it."""


@dataclass(slots=True, eq=False)
class _Entry:
    folder: Path
    made: asyncio.Task[None]
    services: set[str | None]
    """Which ever had it."""
    holders: int = 0
    linking: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True, eq=False)
class _Spare:
    commit: str
    folder: Path
    index: Path


class Checkouts:
    """All checkouts of one driver, below `folder` (mode 0700)."""

    def __init__(self, git: Git, folder: Path) -> None:
        self._git, self._folder = git, folder
        self._entries: dict[str, _Entry] = {}
        self._shared: dict[tuple[str, bool], str] = {}
        """By group: a commit, and whether it is the baseline's services or forks that share it."""
        self._numbers = itertools.count(1)
        self._spare: _Spare | None = None
        self._sparing: asyncio.Task[None] | None = None

    async def take(
        self,
        commit: str,
        *,
        links: Iterable[str] = (),
        private: bool = False,
        baseline: bool = False,
        service: str | None = None,
    ) -> Checkout:
        """A checkout of the commit (full id) with the untracked folders `links` of the user's work tree in it; shared
        among the baseline's services, or among forks, unless it is `private`. A `service` is never given one that it
        had before: it may have written to its folder.

        CheckoutError if the commit or a link does not exist; SandboxError if it cannot be written.
        """
        entry = self._entry(commit, None if private else (commit, baseline), service)
        entry.holders += 1
        checkout = Checkout(commit, entry.folder / self._git.prefix, entry.folder, private)
        try:
            await asyncio.shield(entry.made)
            async with entry.linking:
                made = [self._link(checkout.root, entry.folder, link) for link in links]
        except BaseException:
            await unsplit(self.give_back(checkout))
            raise
        return replace(checkout, links=tuple(target for target in made if target is not None))

    async def give_back(self, checkout: Checkout) -> None:
        """Let go of it; the folder goes with its last holder."""
        entry = self._entries[checkout.folder.name]
        entry.holders -= 1
        if entry.holders > 0:
            return
        self._forget(checkout)
        entry.made.cancel()
        await asyncio.gather(entry.made, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, entry.folder, ignore_errors=True)

    def keep_spare(self, commit: str) -> None:
        """Have a spare tree of this commit made in the background, if there is none."""
        if self._spare is None and self._sparing is None:
            self._sparing = asyncio.create_task(self._make_spare(commit), name="spare checkout")

    async def drop_spare(self) -> None:
        """Remove the spare, or stop making it."""
        if self._sparing is not None:
            self._sparing.cancel()
            await asyncio.wait([self._sparing])
        if (spare := self._taken_spare()) is not None:
            await asyncio.to_thread(_remove, spare.folder, spare.index)

    async def sweep(self, *, dry_run: bool = False) -> tuple[str, ...]:
        """Remove folders that belong to no checkout; their paths. `dry_run`: only tell."""
        if self._sparing is not None:
            await asyncio.wait([self._sparing])
        ours = {*self._entries, *([self._spare.folder.name] if self._spare else [])}
        strangers = [path for path in self._folder.glob("*") if path.name not in ours]
        for path in () if dry_run else strangers:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        return tuple(map(str, strangers))

    def _entry(self, commit: str, group: tuple[str, bool] | None, service: str | None) -> _Entry:
        """The entry that the group shares; a new one for None, and where the service had it."""
        if group in self._shared:
            entry = self._entries[self._shared[group]]
            if service is None or service not in entry.services:
                entry.services.add(service)
                return entry
        name = f"{commit[:12]}-{next(self._numbers)}"
        made = asyncio.create_task(self._make(commit, self._folder / name), name=f"checkout of {commit[:12]}")
        entry = self._entries[name] = _Entry(folder=self._folder / name, made=made, services={service})
        if group is not None:
            self._shared[group] = name
        return entry

    def _forget(self, checkout: Checkout) -> None:
        name = checkout.folder.name
        del self._entries[name]
        self._shared = {key: shared for key, shared in self._shared.items() if shared != name}

    async def _make(self, commit: str, folder: Path) -> None:
        try:
            if (spare := self._taken_spare()) is None or not await self._take_over(spare, commit, folder):
                index = self._git.new_index()
                await self._git.materialise(commit, folder, index)
                index.unlink()
        except OSError as error:
            raise SandboxError(
                f"commit {commit[:12]} cannot be checked out to {str(folder)!r}: {error.strerror}",
                hint="free some space" if disk_is_full(error) else "the state folder must be writable",
            ) from error

    async def _take_over(self, spare: _Spare, commit: str, folder: Path) -> bool:
        """Whether the spare could be made the tree of `commit`; it is used up in any case."""
        try:
            spare.folder.rename(folder)
            await self._git.advance(folder, spare.index, spare.commit, commit)
        except CheckoutError:
            await asyncio.to_thread(_remove, folder, spare.index)
            return False
        spare.index.unlink()
        return True

    async def _make_spare(self, commit: str) -> None:
        folder, index = self._folder / f"spare-{next(self._numbers)}", self._git.new_index()
        try:
            await self._git.materialise(commit, folder, index)
            # As old as the files, the index would make git read all of them once more when it is changed.
            os.utime(index, (time.time() + _AHEAD_S,) * 2)
            self._spare = _Spare(commit, folder, index)
        except (SpurlineError, OSError) as error:
            _log.warning("no spare checkout could be made: %s", error)
        finally:
            if self._spare is None:
                _remove(folder, index)
            self._sparing = None

    def _taken_spare(self) -> _Spare | None:
        spare, self._spare = self._spare, None
        return spare

    def _link(self, root: Path, folder: Path, link: str) -> Path | None:
        """Symlink an untracked folder into the checkout; where it leads. What the commit itself has there stays: None.

        It is the cage of a fork that makes the folder read-only."""
        place = root / link
        if place.is_symlink() and self._git.worktree is not None:
            target = self._git.worktree / self._git.prefix / link
            return target if place.readlink() == target else None
        if place.is_symlink() or place.exists():
            return None
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
        # Not by Path.resolve, which ends with an error of its own where a link of the commit leads to itself.
        if not Path(os.path.realpath(place.parent)).is_relative_to(os.path.realpath(folder)):
            raise CheckoutError(f"link {link!r} would lie outside of the checkout: a folder of it is a symlink")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
        except OSError as error:
            if disk_is_full(error):
                raise
            raise CheckoutError(f"link {link!r} cannot be made in the checkout: {error.strerror}") from error
        return target


def _remove(folder: Path, index: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    index.unlink(missing_ok=True)
