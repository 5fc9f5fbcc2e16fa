"""Connections: the driver's keeper, the database, the baseline of a commit."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.project import FILE_NAME, STATE_NAME, Project, read_project
from harness.runtime.starting import StartLog, brought_up
from sandbox.driver import Driver
from sandbox.filelock import taken
from tasks.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from harness.repository import Repository
    from harness.store.database import Database

Narrator = Callable[[str], None]

_POLL_S: Final = 0.05


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


def store_place(project: Project, file: str) -> Path | str:
    """Where state is kept: the URL in SPURLINE_STORE, or of `store`; else `file` in `.spurline/`."""
    return os.environ.get("SPURLINE_STORE") or project.settings.store or project.state / file


@asynccontextmanager
async def opened_store(project: Project) -> AsyncIterator[Database]:
    """The project's database. Raises StoreError, UsageError (for its URL)."""
    from harness.store.database import Database

    async with Database(store_place(project, "spurline.db")) as database:
        yield database


@asynccontextmanager
async def baseline_of(project: Project, driver: Driver, commit: str, narrate: Narrator) -> AsyncIterator[None]:
    """The baseline of this commit, started where it is not up. Unless it was brought up to stay, whoever uses it last
    stops it, whoever started it: that one may have been killed."""
    async with _used(project.state / "baseline.users") as alone:
        if await driver.baseline() is None:
            narrate(f"starting the baseline from commit {commit[:12]}")
            await brought_up(driver, project.system(), commit, StartLog(narrate), lease_s=project.settings.baseline.ttl)
        else:
            await driver.up(project.system(), commit, lease_s=project.settings.baseline.ttl)
        try:
            yield
        finally:
            if alone():
                # What cannot be stopped now ends with its lease.
                with suppress(EnvironmentFault):
                    await _leave(driver)


async def _leave(driver: Driver) -> None:
    """Stop the baseline that nobody uses any more, unless it is to stay; while somebody has a sandbox beside it, it
    does."""
    from harness.validation.baseline import is_probe

    baseline = await driver.baseline()
    if baseline is None or baseline.lease_ends is None:
        return
    for sandbox in await driver.list():
        if is_probe(sandbox.name):
            # Somebody was killed while he asked the baseline.
            await driver.delete(sandbox.name)
    if left := await driver.list():
        await hold_until(driver, max(sandbox.lease_ends for sandbox in left))
    else:
        await driver.down()


async def hold_until(driver: Driver, until: float) -> None:
    """Have the baseline stay up until then at least: when it goes, so do the sandboxes beside it."""
    if await driver.baseline() is not None:
        await driver.hold(lease_s=max(0.0, until - time.time()))


@asynccontextmanager
async def _used(path: Path) -> AsyncIterator[Callable[[], bool]]:
    """Count as one of those who use something, however this process ends. What is yielded tells once, and from then on
    holds it, whether nobody else does; it is not used any more then."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def alone() -> bool:
        return taken(handle)

    try:
        # Who is about to stop it is waited for.
        while not taken(handle, fcntl.LOCK_SH):  # noqa: ASYNC110 - the other one is another process
            await asyncio.sleep(_POLL_S)
        yield alone
    finally:
        os.close(handle)


async def project_at(project: Project, repository: Repository, commit: str) -> Project:
    """The project as `commit` has it: what judges a change is never read from the work tree."""
    text = await repository.show(commit, FILE_NAME)
    return read_project(project.root, text.decode(errors="replace"))
