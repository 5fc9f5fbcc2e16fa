"""What the shell completes: names of services, tickets and sandboxes.

Runs at every press of the tab key: quick, silent, and without effects. What cannot be read completes to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tasks.errors import SpurlineError

if TYPE_CHECKING:
    from harness.settings import Project


def services(ctx: typer.Context, incomplete: str) -> list[str]:
    """Services of the project."""
    try:
        return [name for name in _project(ctx).settings.baseline.services if name.startswith(incomplete)]
    except (SpurlineError, OSError):
        return []


def forks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Services that can be forked; what follows `=` is the user's."""
    try:
        known = _project(ctx).settings.baseline.services.items()
    except (SpurlineError, OSError):
        return []
    return [name for name, service in known if service.url is None and name.startswith(incomplete)]


def tickets(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Tickets of the backlog with their titles."""
    try:
        backlog = _project(ctx).backlog()
    except (SpurlineError, OSError):
        return []
    return [(ticket.id, ticket.title) for ticket in backlog if ticket.id.startswith(incomplete)]


def sandboxes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Sandboxes that live at the moment."""
    return []


def _project(ctx: typer.Context) -> Project:
    from harness.cli.place import Place

    root = ctx.find_root()
    place = root.obj if isinstance(root.obj, Place) else Place(root.params.get("project"))
    return place.project()
