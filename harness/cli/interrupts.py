"""Ctrl-C: the first one stops cleanly, the second one at once.

A clean stop cancels the command's task, so every `finally` and context manager runs. SIGTERM and SIGHUP are the
same as the first Ctrl-C; but where a command can be drained, the first SIGTERM does that. All end with exit code 130.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR: Final = "\x1b[?25h"


def complete(main: Coroutine[Any, Any, Result], drain: asyncio.Event | None = None) -> Result:
    """Run a command's coroutine to its end; KeyboardInterrupt when a signal stopped it. `drain` is set by SIGTERM."""
    return asyncio.run(_watched(main, drain))


async def _watched(main: Coroutine[Any, Any, Result], drain: asyncio.Event | None) -> Result:
    task = asyncio.ensure_future(main)
    stop = _Stop(task, drain)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_told)
    # What was ignored from the start stays so: `nohup` and jobs in the background mean it.
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heeded:
        loop.add_signal_handler(number, stop.asked, number)
    try:
        return await task
    except asyncio.CancelledError:
        if stop.wanted:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


def _told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say what nobody caught, save for one thing: anyio tells a read of the keeper's socket that was just broken off
    that there is something to read. Nobody wants that any more, and a user could do nothing about it."""
    late = isinstance(context.get("exception"), asyncio.InvalidStateError)
    if not (late and "Future.set_result" in context.get("message", "")):
        loop.default_exception_handler(context)


class _Stop:
    """Counts the signals."""

    def __init__(self, task: asyncio.Future[Any], drain: asyncio.Event | None) -> None:
        self._task, self._drain = task, drain
        self.wanted = False

    def asked(self, number: signal.Signals) -> None:
        if number == signal.SIGTERM and self._drain is not None and not self._drain.is_set() and not self.wanted:
            print("everything at work stops at its next step; once more stops it now", file=sys.stderr, flush=True)  # noqa: T201
            self._drain.set()
            return
        terminal = sys.stderr.isatty()
        if self.wanted:
            # A live display hides the cursor and has no chance to bring it back.
            print(f"{_SHOW_CURSOR if terminal else ''}stopped at once", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(130)
        self.wanted = True
        print("stopping; once more stops at once", file=sys.stderr, flush=True)  # noqa: T201
        self._task.cancel()
