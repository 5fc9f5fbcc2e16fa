"""Connections: the driver's keeper, the database, the baseline of a commit."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.runtime.starting import StartLog, brought_up
from harness.settings import FILE_NAME, STATE_NAME, Project, read_project
from sandbox.driver import Driver
from tasks.errors import UsageError

if TYPE_CHECKING:
    from harness.repository import Repository
    from harness.store.database import Database

Narrator = Callable[[str], None]


def console_script() -> str:
    """The installed `spurline`, beside this interpreter first. Our children are started through it only."""
    beside = Path(sys.executable).with_name("spurline")
    found = str(beside) if beside.exists() else shutil.which("spurline")
    if found is None:
        raise UsageError("the console script `spurline` is not installed beside this Python", hint="reinstall Spurline")
    return found


@asynccontextmanager
async def connected(project: Project) -> AsyncIterator[Driver]:
    """The driver of the project: its keeper, started where none answers."""
    from sandbox.local.client import ensure_keeper

    argv = [console_script(), "keeper", "--project", str(project.root)]
    driver = await ensure_keeper(project.root, project.state / "local", argv)
    try:
        yield driver
    finally:
        await driver.aclose()


@asynccontextmanager
async def attached(root: Path) -> AsyncIterator[Driver | None]:
    """The driver of the project at `root` if its keeper runs, else None: nothing is started."""
    from sandbox.local.client import find_keeper

    state = root / STATE_NAME / "local"
    driver = await find_keeper(state) if state.is_dir() else None
    try:
        yield driver
    finally:
        if driver is not None:
            await driver.aclose()


async def collect(project: Project, *, dry_run: bool) -> tuple[str, ...]:
    """Remove what nobody owns any more; what was removed, or (`dry_run`) only would be."""
    if not dry_run:
        async with connected(project) as driver:
            return await driver.gc()
    from sandbox.local.guard import leftovers

    async with attached(project.root) as running:
        if running is not None:
            return await running.gc(dry_run=True)
    # A keeper that starts removes what an earlier one left, so none is started to ask.
    return await asyncio.to_thread(leftovers, project.state / "local")


@asynccontextmanager
async def opened_store(project: Project) -> AsyncIterator[Database]:
    """The project's database."""
    from harness.store.database import Database

    if project.settings.store is not None:
        raise UsageError("`store:` is not supported yet", hint="remove it: state is kept in .spurline/ then")
    async with Database(project.state / "spurline.db") as database:
        yield database


@asynccontextmanager
async def baseline_of(project: Project, driver: Driver, commit: str, narrate: Narrator) -> AsyncIterator[None]:
    """The baseline of this commit; started where it is not up, and stopped then when nobody else uses it."""
    was_up = await driver.baseline() is not None
    if not was_up:
        narrate(f"starting the baseline from commit {commit[:12]}")
        await brought_up(driver, project.system(), commit, StartLog(narrate), lease_s=project.settings.baseline.ttl)
    else:
        await driver.up(project.system(), commit, lease_s=project.settings.baseline.ttl)
    try:
        yield
    finally:
        if not was_up and not await driver.list():
            await driver.down()


async def project_at(project: Project, repository: Repository, commit: str) -> Project:
    """The project as `commit` has it: what judges a change is never read from the work tree."""
    text = await repository.show(commit, FILE_NAME)
    return read_project(project.root, text.decode(errors="replace"))
