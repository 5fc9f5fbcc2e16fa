"""The bench that judges: checks, settings and tickets of the base commit, and folders in which its commands run.

The base commit is checked out once, its content is remembered in memory, and every command gets a private copy made of
exactly that content. So nothing that a change, a fork or an earlier check left behind is there when a command judges,
and whoever alters the checkout is found out before it is used again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.project import Project, read_project
from harness.repository import Repository
from harness.repository.scratch import Scratch
from harness.validation.once import Once
from harness.validation.results import digest
from harness.validation.scope import Links, Protection, protection
from sandbox.confinement import Cage
from sandbox.service import System
from tasks.backlog import Backlog
from tasks.errors import CheckoutError, EnvironmentFault
from tasks.ticket import Check, Ticket, TicketChecks

# Test runners look upwards for their settings: what they meet first is this, and nothing of anybody else's.
_BARRIERS: Final[Mapping[str, str]] = {"pytest.ini": "[pytest]\n"}


class TamperedError(EnvironmentFault):
    """The checkout that judges is not what it was made as."""

    code = "tampered"


@dataclass(frozen=True, slots=True)
class Item:
    """One check with its place in the judging."""

    check: Check
    own: bool
    name: str
    """Unique among the checks of one docket."""
    digest: str


@dataclass(frozen=True, slots=True)
class Docket:
    """Everything that one ticket is judged by, all of it the base commit's."""

    base: str
    project: Project
    system: System
    protected: Protection
    links: Links
    ticket: Ticket
    items: tuple[Item, ...]
    """The ticket's own checks first."""

    @property
    def repeat(self) -> int:
        return self.project.settings.checks.repeat


@dataclass(frozen=True, slots=True)
class Bench:
    """A private copy of a commit's tree, and a folder beside it for reports and temporary files."""

    folder: Path
    scratch: Path
    links: tuple[Path, ...] = ()
    """Folders of the user's work tree that are linked into the copy."""
    hidden: tuple[Path, ...] = ()

    def cage(self, *, network: bool) -> Cage:
        """What a command of the commit under test may reach: this copy, and what we linked into it."""
        return Cage(writable=(self.folder, self.scratch), readable=self.links, hidden=self.hidden, network=network)


@dataclass(frozen=True, slots=True)
class _Pristine:
    """A checkout as it was made: what each of its files held."""

    folder: Path
    files: Mapping[str, str]
    """Path to sha256 of its content and mode; of a symlink, of where it leads."""
    links: Links
    project: Project
    checks: tuple[Check, ...]


class Benches:
    """All benches of one process, below `folder` (`.spurline/judge`). Close it to remove what it made."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self._repository, self._folder = repository, folder
        self._pristine: Once[str, _Pristine] = Once()
        self._backlogs: dict[str, Backlog] = {}
        self._mine: list[Scratch] = []
        self._hidden = (repository.root, repository.git.places.common, folder.parent)

    async def aclose(self) -> None:
        await self._pristine.aclose()
        for scratch in self._mine:
            await asyncio.to_thread(scratch.remove)
        self._mine.clear()

    async def docket(self, base: str, ticket: Ticket) -> Docket:
        """What judges the ticket. ConfigError or CheckoutError where the base commit does not hold it."""
        pristine = await self._of(base)
        judged = await self._ticket(base, pristine, ticket)
        items = list(_items(judged.checks.all, pristine.checks))
        project = pristine.project
        protected = protection(project.settings)
        return Docket(base, project, project.system(), protected, pristine.links, judged, tuple(items))

    @asynccontextmanager
    async def bench(self, base: str) -> AsyncIterator[Bench]:
        """A private copy of the base commit, verified as it is made. TamperedError if the checkout was altered."""
        pristine = await self._of(base)
        async with self._copy() as bench:
            try:
                await asyncio.to_thread(_copy_exactly, pristine, bench.folder)
            except TamperedError:
                self._pristine.forget(base)
                raise
            yield replace(bench, links=self._link(bench.folder, pristine.project))

    @asynccontextmanager
    async def exhibit(self, commit: str, links_of: Project) -> AsyncIterator[Bench]:
        """A private checkout of the commit that is judged: for what may fail it and never verify it."""
        async with self._copy() as bench:
            await self._repository.export(commit, bench.folder)
            yield replace(bench, links=self._link(bench.folder, links_of))

    @asynccontextmanager
    async def scratch(self, beside: Path, links_of: Project) -> AsyncIterator[tuple[Path, Cage]]:
        """A folder for temporary files alone, and the cage of commands that run in the folder `beside`."""
        links = tuple(self._repository.root / name for name in links_of.links)
        async with self._copy() as bench:
            yield bench.scratch, replace(bench, folder=beside, links=links).cage(network=False)

    @asynccontextmanager
    async def _copy(self) -> AsyncIterator[Bench]:
        place = Scratch.make(self._folder, "work")
        try:
            (place.path / "scratch").mkdir()
            for name, content in _BARRIERS.items():
                (place.path / name).write_text(content)
            yield Bench(place.path / "tree", place.path / "scratch", hidden=self._hidden)
        finally:
            await asyncio.shield(asyncio.to_thread(place.remove))

    async def _of(self, base: str) -> _Pristine:
        return await self._pristine.get(base, lambda: self._check_out(base), name=f"bench of {base[:12]}")

    async def _check_out(self, base: str) -> _Pristine:
        scratch = Scratch.make(self._folder, base[:12])
        self._mine.append(scratch)
        folder = scratch.path / "tree"
        await self._repository.export(base, folder)
        files = await asyncio.to_thread(lambda: dict(_contents(folder)))
        project = read_project(folder)
        links = {name: os.readlink(folder / name) for name in files if (folder / name).is_symlink()}  # noqa: PTH115
        return _Pristine(folder, files, Links.of(links), project, project.checks())

    async def _ticket(self, base: str, pristine: _Pristine, ticket: Ticket) -> Ticket:
        if ticket.source is None:
            # It never was a file that a change could reach.
            return ticket
        if base not in self._backlogs:
            self._backlogs[base] = await asyncio.to_thread(pristine.project.backlog)
        for known in self._backlogs[base]:
            if known.id == ticket.origin:
                return known.model_copy(update={"id": ticket.id, "copy_of": ticket.copy_of})
        raise CheckoutError(
            f"the ticket {ticket.id!r} is not in commit {base[:12]}, on which it is to be worked",
            hint=f"commit {str(ticket.source)!r} first",
        )

    def _link(self, folder: Path, project: Project) -> tuple[Path, ...]:
        """Link the untracked folders that services need (`link:`), for checks need them too. Tracked paths stay."""
        made = []
        for name in project.links:
            place, target = folder / name, self._repository.root / name
            inside = Path(os.path.realpath(place.parent)).is_relative_to(os.path.realpath(folder))
            if inside and target.exists() and not place.exists() and not place.is_symlink():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(target)
                made.append(target)
        return tuple(made)


def no_ticket() -> Ticket:
    """What a commit without a ticket is judged as: nothing of its own, any service allowed."""
    return Ticket(id="check", title="A commit without a ticket", checks=TicketChecks())


def _items(own: Iterable[Check], others: Iterable[Check]) -> Iterable[Item]:
    names = set()
    for check in own:
        names.add(check.name)
        yield Item(check, own=True, name=check.name, digest=digest(check))
    for check in others:
        # The planted fault names a check: two of one name must not stand in for each other.
        name = check.name if check.name not in names else f"{check.name} (repository)"
        yield Item(check, own=False, name=name, digest=digest(check))


def _contents(folder: Path) -> Iterable[tuple[str, str]]:
    for place, names, files in os.walk(folder):
        for name in (*files, *(name for name in names if (Path(place) / name).is_symlink())):
            path = Path(place) / name
            yield path.relative_to(folder).as_posix(), _fingerprint(path, _content(path))


def _copy_exactly(pristine: _Pristine, into: Path) -> None:
    """Make `into` of the remembered files and nothing else."""
    into.mkdir(parents=True)
    for name, expected in pristine.files.items():
        source, place = pristine.folder / name, into / name
        try:
            content = _content(source)
        except OSError:
            content = b""
        if _fingerprint(source, content) != expected:
            raise TamperedError(
                f"{str(source)!r}, which judges, was altered by somebody",
                hint="something that runs here writes to .spurline/; look at what the forks do",
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            place.symlink_to(os.fsdecode(content))
        else:
            place.write_bytes(content)
            place.chmod(source.stat().st_mode & 0o777)


def _content(path: Path) -> bytes:
    return os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()  # noqa: PTH115


def _fingerprint(path: Path, content: bytes) -> str:
    try:
        mode = path.lstat().st_mode
    except OSError:
        mode = 0
    return f"{mode:o} {hashlib.sha256(content).hexdigest()}"
