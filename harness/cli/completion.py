"""What the shell completes: names of services, tickets and sandboxes.

Runs at every press of the tab key: quick, silent, and without effects. What cannot be read completes to nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli.place import Place
from tasks.errors import SpurlineError

if TYPE_CHECKING:
    from harness.project import Project


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
    """Sandboxes that live at the moment, asked of what runs; nothing is started."""
    import asyncio

    try:
        names = asyncio.run(_living(_place(ctx).root()))
    except (SpurlineError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]


async def _living(root: Path) -> list[str]:
    from harness.runtime import attached

    async with attached(root) as driver:
        return [sandbox.name for sandbox in await driver.list()] if driver is not None else []


def _project(ctx: typer.Context) -> Project:
    return _place(ctx).project()


def _place(ctx: typer.Context) -> Place:
    # While a line is completed no command runs, so nobody has set `obj`.
    return Place(ctx.find_root().params.get("project"))
