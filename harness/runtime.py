"""Where concrete parts meet: the only module that knows which class fulfils which port."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from harness.settings import STATE_NAME, Project
from sandbox.driver import Driver
from tasks.errors import UsageError


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
