"""Looking at a screen as a person does: what stands on it, once it stands there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

from tui.app import SpurlineApp

PATIENCE_S = 20.0


def seen(app: SpurlineApp) -> str:
    """The text on the screen, line by line, without what is empty at their ends."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


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
