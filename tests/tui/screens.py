"""Looking at a screen as a person does: what stands on it, once it stands there."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from textual._context import visible_screen_stack
from textual.pilot import Pilot
from textual.strip import Strip

from tests.tui.memory_feed import MemoryFeed
from tui.agents import AgentList
from tui.app import SpurlineApp

PATIENCE_S = 20.0


def seen(app: SpurlineApp) -> str:
    """The text on the screen, line by line, without what is empty at their ends."""
    return "\n".join(strip.text.rstrip() for strip in strips(app))


def strips(app: SpurlineApp) -> list[Strip]:
    """The lines of the screen, with their looks. Who looks at a dialog before it was painted has it drawn, and it keeps
    what it was drawn over: so that has to be said here too."""
    visible_screen_stack.set(app._background_screens)
    return app.screen._compositor.render_strips()


def told(app: SpurlineApp) -> str:
    """What the notes on the screen say, however their lines break."""
    return " ".join(line.partition("▌ ")[2].strip() for line in seen(app).splitlines() if "▌ " in line)


async def until(pilot: Pilot[Any], what: Callable[[], bool]) -> None:
    """Wait until `what` holds; AssertionError with the screen where it never does."""
    app = pilot.app
    assert isinstance(app, SpurlineApp)
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, f"it never came; what stands there is\n{seen(app)}"
        await pilot.pause(0.02)


async def until_seen(pilot: Pilot[Any], *texts: str) -> str:
    """Wait until all `texts` stand on the screen; all that stands there. Its parts are painted one after another."""
    app = pilot.app
    assert isinstance(app, SpurlineApp)
    await until(pilot, lambda: all(text in seen(app) for text in texts))
    return seen(app)


@asynccontextmanager
async def driven(
    feed: MemoryFeed, size: tuple[int, int] = (100, 30), *, at: float | None = None
) -> AsyncIterator[tuple[SpurlineApp, Pilot[Any]]]:
    """The screen on a feed, with its first picture."""
    app = SpurlineApp(feed, at=at)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until_seen(pilot, f"{feed.run.project}  ")
        yield app, pilot


def rows(app: SpurlineApp) -> AgentList:
    return app.screen_stack[0].query_one(AgentList)


def shown(app: SpurlineApp) -> list[str]:
    return [agent.ticket for agent in rows(app).shown]
