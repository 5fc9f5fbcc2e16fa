"""What the keeper of a project says while its run stands still, or is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sandbox.driver import Driver
from sandbox.local.client import find_keeper
from tests.chaos.stage import Stage

T = TypeVar("T")


def asked(stage: Stage, ask: Callable[[Driver], Awaitable[T]]) -> T:
    """What the project's keeper says."""

    async def asking() -> T:
        driver = await find_keeper(stage.state / "local")
        assert driver is not None
        async with driver:
            return await ask(driver)

    return asyncio.run(asking())
