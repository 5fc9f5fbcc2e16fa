"""Where a change lies: which services it forks, whether it touches what judges it or what the ticket excludes. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from pathspec import PathSpec, Pattern

from harness.repository import Change
from harness.settings import FILE_NAME, Settings
from harness.validation.facts import ScopeFacts
from sandbox.service import System

_Place = Literal["altered", "added", "outside", "unjudged", "service"]
_NAMES: Final = 32
"""Of one file: symlinks may lead in a circle."""


@dataclass(frozen=True, slots=True)
class Protection:
    """What of a repository no agent may alter."""

    spec: PathSpec[Pattern]
    links: tuple[tuple[str, str], ...] = ()
    """The base commit's symlinks and where each leads, both below the root."""

    def covers(self, path: str) -> bool:
        """Whether it is protected, as a file or as what stands for a folder: a symlink, a submodule."""
        return self.spec.match_file(path) or self.spec.match_file(f"{path}/_")

    def covers_by_link(self, path: str) -> bool:
        """Whether a symlink makes it a protected path: `qa/a.py` where `tests` leads to `qa`."""
        names, front = {path}, [path]
        while front:
            name = front.pop()
            for link, target in self.links:
                if PurePosixPath(name).is_relative_to(target) and len(names) < _NAMES:
                    other = str(PurePosixPath(link) / PurePosixPath(name).relative_to(target))
                    front += {other} - names
                    names.add(other)
        return any(self.spec.match_file(name) for name in names - {path})


def protection(settings: Settings, links: Mapping[str, str] | None = None) -> Protection:
    """`checks.protected` (patterns as in .gitignore), the settings, the files of the checks, and the tickets; `links`
    are the base commit's symlinks, each with what it says."""
    own = [f"/{FILE_NAME}", _anchored(settings.tickets.files)]
    if settings.checks.http is not None:
        own.append(_anchored(settings.checks.http))
    spec = PathSpec.from_lines("gitignore", [*settings.checks.protected, *own])
    placed = (
        (link, posixpath.normpath(posixpath.join(posixpath.dirname(link), to))) for link, to in (links or {}).items()
    )
    return Protection(spec, tuple((link, to) for link, to in placed if not to.startswith(("/", ".."))))


def scope_of(changes: Iterable[Change], system: System, protected: Protection, allowed: Iterable[str]) -> ScopeFacts:
    """Sort the changed paths. `allowed` are the ticket's services; none named means that any service may change."""
    allowed = frozenset(allowed)
    services: set[str] = set()
    found: dict[_Place, list[str]] = {"altered": [], "added": [], "outside": [], "unjudged": [], "service": []}
    for change in changes:
        owners = system.owners(change.path)
        place = _place(change, owners, protected, allowed)
        found[place].append(change.path)
        if place == "service":
            services |= owners
    return ScopeFacts(
        services=tuple(name for name in system.services if name in services),
        altered=tuple(sorted(found["altered"])),
        added=tuple(sorted(found["added"])),
        outside=tuple(sorted(found["outside"])),
        unjudged=tuple(sorted(found["unjudged"])),
    )


def _place(change: Change, owners: frozenset[str], protected: Protection, allowed: frozenset[str]) -> _Place:
    # What a test has by a symlink from a service is the service's.
    if protected.covers(change.path) or (not owners and protected.covers_by_link(change.path)):
        return "added" if change.kind == "added" else "altered"
    if allowed and (not owners or not owners <= allowed):
        return "outside"
    return "service" if owners else "unjudged"


def _anchored(pattern: str) -> str:
    """A glob relative to the root as a pattern of .gitignore's, where one without a slash would match at any depth."""
    return "/" + str(PurePosixPath(pattern))
