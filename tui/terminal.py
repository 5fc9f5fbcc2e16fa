"""The screen on a terminal, from its start to its end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import Final

from tui.app import SpurlineApp
from tui.feed import Feed

INTERRUPTED: Final = 130
"""The exit code of who was terminated."""


async def run_screen(feed: Feed, *, at: float | None = None) -> int:
    """Show the run until the user leaves; the exit code. Terminated, it leaves the terminal as it was."""
    spare_the_imported()
    app = SpurlineApp(feed, at=at)
    if app.console.color_system == "standard" and "TEXTUAL_THEME" not in os.environ:
        # Sixteen colours are better the terminal's own than the nearest ones to a theme's.
        app.theme = "ansi-dark"
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: app.exit(return_code=INTERRUPTED))
    await app.run_async()
    return app.return_code or 0


def spare_the_imported() -> None:
    """Keep modules out of the garbage collector from here on: looking through all of them takes it some 40 ms, in which
    no key is heard."""
    gc.collect()
    gc.freeze()
