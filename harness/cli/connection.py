"""The driver of a project for commands that only make sense where something runs: they start nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sandbox.driver import Driver
from tasks.errors import BaselineError


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
