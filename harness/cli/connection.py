"""The driver of a project for commands that only make sense where something runs: they start nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from sandbox.driver import Driver, Sandbox
from tasks.errors import BaselineError, SandboxGone, UsageError

LISTED: Final = "`spurline sandbox list` shows those that live"
"""The way out for who named a sandbox that cannot be meant."""


def not_up() -> BaselineError:
    """What is said where the baseline is needed and is not there."""
    return BaselineError("the baseline is not up", hint="`spurline baseline up` starts it")


@asynccontextmanager
async def live(root: Path) -> AsyncIterator[Driver]:
    """The driver of the project at `root`. BaselineError where nothing of it runs."""
    from harness.runtime import attached

    async with attached(root) as driver:
        if driver is None:
            raise not_up()
        yield driver


async def named(driver: Driver, name: str) -> Sandbox:
    """The sandbox that the user named. UsageError where none of this name lives, BaselineError where none can.

    For the first look only: one that ends while it is used is the environment's doing.
    """
    try:
        return await driver.get(name)
    except SandboxGone as gone:
        if await driver.baseline() is None:
            raise not_up() from None
        raise UsageError(gone.message, hint=LISTED) from None
