"""Where a change lies: which services it forks, whether it touches what judges it or what the ticket excludes. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal, Self, get_args

from pathspec import PathSpec, Pattern

from harness.project import FILE_NAME
from harness.repository import Change
from harness.settings import Settings
from harness.validation.facts import ScopeFacts
from sandbox.service import System

_Place = Literal["altered", "added", "outside", "submodule", "leading_out", "unjudged", "service"]
_NAMES: Final = 32
"""Of one file: symlinks may lead in a circle."""


@dataclass(frozen=True, slots=True)
class Links:
    """The symlinks of the base commit, by which a file has more names than git tells of."""

    pairs: tuple[tuple[str, str], ...] = ()
    """Each link with where it leads, both below the root."""

    @classmethod
    def of(cls, said: Mapping[str, str]) -> Self:
        """`said`: each link with its text. One that leads out of the tree, or to a folder that it lies in, is none."""
        inside = [(link, _target(link, to)) for link, to in said.items() if not _leads_out(link, to)]
        return cls(tuple((link, to) for link, to in inside if _below(link, to) is None))

    def names(self, path: str) -> frozenset[str]:
        """All names of a file: `qa/a.py` is `tests/a.py` too where `tests` leads to `qa`."""
        found, front = {path}, [path]
        while front and len(found) < _NAMES:
            name = front.pop()
            others = {posixpath.join(link, rest) for link, to in self.pairs if (rest := _below(name, to)) is not None}
            front += others - found
            found |= others
        return frozenset(posixpath.normpath(name) for name in found)


@dataclass(frozen=True, slots=True)
class Protection:
    """What of a repository no agent may alter."""

    spec: PathSpec[Pattern]

    def covers(self, path: str) -> bool:
        """Whether it is protected, as a file or as what stands for a folder: a symlink, a submodule."""
        return self.spec.match_file(path) or self.spec.match_file(f"{path}/_")


def protection(settings: Settings) -> Protection:
    """`checks.protected` (patterns as in .gitignore), the settings, the files of the checks, and the tickets."""
    own = [f"/{FILE_NAME}", _anchored(settings.tickets.files)]
    if settings.checks.http is not None:
        own.append(_anchored(settings.checks.http))
    return Protection(PathSpec.from_lines("gitignore", [*settings.checks.protected, *own]))


def scope_of(
    changes: Iterable[Change],
    system: System,
    protected: Protection,
    allowed: Iterable[str],
    links: Links | None = None,
) -> ScopeFacts:
    """Sort the changed paths. `allowed` are the ticket's services; none named means that any service may change."""
    allowed, links = frozenset(allowed), links or Links()
    services: set[str] = set()
    found: dict[_Place, list[str]] = {place: [] for place in get_args(_Place)}
    for change in changes:
        names = links.names(change.path)
        owners = frozenset[str]().union(*map(system.owners, names))
        # What a test has by a symlink from the folder of a service is the service's.
        homes = [system.services[name].cwd for name in system.owners(change.path)]
        judges = map(protected.covers, [change.path] if any(home != "." for home in homes) else names)
        place = _place(change, owners, any(judges), allowed)
        found[place].append(_shown(change.path))
        if place == "service":
            services |= owners
    return ScopeFacts(
        services=tuple(name for name in system.services if name in services),
        altered=tuple(sorted(found["altered"])),
        added=tuple(sorted(found["added"])),
        outside=tuple(sorted(found["outside"])),
        submodules=tuple(sorted(found["submodule"])),
        leading_out=tuple(sorted(found["leading_out"])),
        unjudged=tuple(sorted(found["unjudged"])),
    )


def _place(change: Change, owners: frozenset[str], protected: bool, allowed: frozenset[str]) -> _Place:
    if protected:
        return "added" if change.kind == "added" else "altered"
    if allowed and (not owners or not owners <= allowed):
        return "outside"
    if change.submodule:
        return "submodule"
    if owners and change.link is not None and _leads_out(change.path, change.link):
        return "leading_out"
    return "service" if owners else "unjudged"


def _target(link: str, to: str) -> str:
    """Where a symlink leads that says `to`."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(link), to))


def _leads_out(link: str, to: str) -> bool:
    target = _target(link, to)
    return target.startswith("/") or target.split("/")[0] == ".."


def _shown(path: str) -> str:
    """A path as a record can hold it: git allows names that are no UTF-8."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _below(path: str, folder: str) -> str | None:
    """The rest of a path that is the folder or lies below it; None where it does not."""
    if folder == "." or path == folder:
        return "" if path == folder else path
    return path[len(folder) + 1 :] if path.startswith(f"{folder}/") else None


def _anchored(pattern: str) -> str:
    """A glob relative to the root as a pattern of .gitignore's, where one without a slash would match at any depth."""
    return "/" + str(PurePosixPath(pattern))
