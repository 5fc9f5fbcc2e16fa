"""The screen on a terminal, from its start to its end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Awaitable
from typing import Final

from tui.app import SpurlineApp
from tui.feed import Feed
from tui.grouping import By
from tui.outside import INTERRUPTED

SERVED: Final = "TEXTUAL_DRIVER"
"""The variable that is set where a browser is the screen's terminal."""
_PARENT_PERIOD_S: Final = 1.0
_WRITER: Final = "textual-output"
"""The thread in which Textual writes to the terminal."""


async def run_screen(feed: Feed | Awaitable[Feed], *, at: float | None = None, by: By | None = None) -> int:
    """Show the run until the user leaves; the exit code. Terminated, it leaves the terminal as it was.

    A feed that is still to come is waited for on the screen; what goes wrong with that is raised when it is gone."""
    app = SpurlineApp(_spared(feed), at=at, by=by)
    if app.console.color_system == "standard" and "TEXTUAL_THEME" not in os.environ:
        # Sixteen colours are better the terminal's own than the nearest ones to a theme's.
        app.theme = "ansi-dark"
    threading.excepthook = _leave_if_it_cannot_be_drawn
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: app.exit(return_code=INTERRUPTED))
    if os.environ.get(SERVED):
        _leave_with(os.getppid(), app)
    sparing = asyncio.create_task(_spared_once_more(app))
    try:
        await app.run_async()
    finally:
        sparing.cancel()
    if app.no_feed is not None:
        raise app.no_feed
    return app.return_code or 0


def _leave_if_it_cannot_be_drawn(wrong: threading.ExceptHookArgs) -> None:
    """Leave at once where the terminal is gone: nobody writes any more, and the screen would wait for that for ever."""
    if wrong.thread is not None and wrong.thread.name == _WRITER:
        os._exit(INTERRUPTED)
    threading.__excepthook__(wrong)


def _leave_with(parent: int, app: SpurlineApp) -> None:
    """Leave when the process that serves this screen to a browser is gone: no closed window and no signal tells."""
    if os.getppid() != parent:
        app.exit(return_code=INTERRUPTED)
    else:
        asyncio.get_running_loop().call_later(_PARENT_PERIOD_S, _leave_with, parent, app)


async def _spared(feed: Feed | Awaitable[Feed]) -> Feed:
    found = await feed if isinstance(feed, Awaitable) else feed
    spare_the_imported()
    return found


async def _spared_once_more(app: SpurlineApp) -> None:
    """The screen itself is there to stay, and what the store keeps at hand: some 20 ms a collection."""
    await app.warm.wait()
    spare_the_imported()


def spare_the_imported() -> None:
    """Keep what is there by now out of the garbage collector: looking through all modules takes it some 40 ms, in which
    no key is heard."""
    gc.freeze()
    gc.enable()
