"""Where a change lies: which services it forks, whether it touches what judges it or what the ticket excludes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Literal

from pathspec import PathSpec, Pattern

from harness.repository import Change
from harness.settings import FILE_NAME, Settings
from harness.validation.facts import ScopeFacts
from sandbox.service import System

_Place = Literal["altered", "added", "outside", "unjudged", "service"]


def protection(settings: Settings) -> PathSpec[Pattern]:
    """What of a repository no agent may alter: `checks.protected` (patterns as in .gitignore), the settings, the
    files of the checks, and the tickets."""
    own = [f"/{FILE_NAME}", _anchored(settings.tickets.files)]
    if settings.checks.http is not None:
        own.append(_anchored(settings.checks.http))
    return PathSpec.from_lines("gitignore", [*settings.checks.protected, *own])


def scope_of(
    changes: Iterable[Change], system: System, protected: PathSpec[Pattern], allowed: Iterable[str]
) -> ScopeFacts:
    """Sort the changed paths. `allowed` are the ticket's services; none named means that any service may change."""
    allowed = frozenset(allowed)
    services: set[str] = set()
    found: dict[_Place, list[str]] = {"altered": [], "added": [], "outside": [], "unjudged": [], "service": []}
    for change in changes:
        owners = system.owners(change.path)
        place = _place(change, owners, protected.match_file(change.path), allowed)
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


def _place(change: Change, owners: frozenset[str], protected: bool, allowed: frozenset[str]) -> _Place:
    if protected:
        return "added" if change.kind == "added" else "altered"
    if allowed and (not owners or not owners <= allowed):
        return "outside"
    return "service" if owners else "unjudged"


def _anchored(pattern: str) -> str:
    """A glob relative to the root as a pattern of .gitignore's, where one without a slash would match at any depth."""
    return "/" + str(PurePosixPath(pattern))
