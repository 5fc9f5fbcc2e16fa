"""The screen beside a run: offered on its terminal, or shown there in the place of its progress (`run --tui`).

It is a process of its own there too: whatever becomes of it, the run goes on. A run that has come to its end has
nothing left to do but to say so: that waits until the user has left the screen, or a signal ends it. Where there is
nobody to see it, nothing is said of it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import termios
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from harness.cli.output import Output
from harness.cli.progress import Progress
from harness.project import invocation
from tasks.errors import SpurlineError
from tasks.events import Event

_BEGINNINGS: Final = ("run.started", "run.resumed")
_HELD: Final = 200
"""As many lines of narration are kept while the screen is shown."""
_PATIENCE_S: Final = 5.0
# What a screen that was killed could not take back: the mouse, pasting, the hidden cursor, the other page.
_PLAIN: Final = "\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[?25h\x1b[?1049l"


class Beside:
    """Told every event of a run, it offers or shows the screen as soon as there is a run."""

    def __init__(self, out: Output, root: Path, progress: Progress, *, wanted: bool) -> None:
        """`wanted`: show it here. `root` is the project's folder."""
        self._out, self._root, self._progress, self._wanted = out, root, progress, wanted
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._held: deque[str] = deque(maxlen=_HELD)
        self._over = False

    def heed(self, event: Event) -> None:
        """Take one event in; quick, and never raises."""
        if event.kind not in _BEGINNINGS or self._task is not None or not watched_by_a_person(self._out):
            return
        if self._wanted and sys.stdin.isatty() and self._out.terminal:
            self._task = asyncio.ensure_future(self._show(event.run))
        else:
            self._out.note(f"`{self._command(event.run)}` in another terminal shows it on a screen")

    def narrate(self, text: str) -> None:
        """Say it on stderr, or after the screen has left."""
        if self._process is None:
            self._out.note(text)
        else:
            self._held.append(text)

    async def left(self, drain: asyncio.Event) -> None:
        """The run has come to its end: wait until the user has left the screen, or until a signal comes. How the run
        ended stands by now, so a signal is for what is still there, the screen."""
        self._over = True
        if self._task is None:
            return
        drained = asyncio.ensure_future(drain.wait())
        try:
            await asyncio.wait([self._task, drained], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if (current := asyncio.current_task()) is not None:
                current.uncancel()
        finally:
            drained.cancel()

    async def end(self) -> None:
        """End the screen, where there still is one."""
        self._over = True
        if self._task is None:
            return
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()
        done, _ = await asyncio.wait([self._task], timeout=_PATIENCE_S)
        if not done and self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._task

    def _command(self, run: str) -> str:
        return f"{invocation(self._root)} tui {run}"

    async def _show(self, run: str) -> None:
        from harness.runtime import console_script

        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with _as_it_was():
            try:
                argv = [console_script(), "--project", str(self._root), "tui", run]
                self._progress.hide()
                self._process = await asyncio.create_subprocess_exec(*argv, env=env)
                await self._process.wait()
            except (OSError, SpurlineError) as error:
                self._held.append(f"the screen cannot be shown: {error}")
        self._process = None
        self._progress.show()
        if not self._over:
            self._out.note(f"the run goes on; `{self._command(run)}` shows the screen again")
        for text in self._held:
            self._out.note(text)
        self._held.clear()


def watched_by_a_person(out: Output) -> bool:
    """Whether somebody reads the narration on a terminal that can show more than lines."""
    able = os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI")
    return able and out.narrates_on_terminal and not out.json


@contextmanager
def _as_it_was() -> Iterator[None]:
    """The terminal is afterwards what it was before, also where a screen was killed on it; unless it is gone itself."""
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        with suppress(termios.error, OSError):
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
            sys.stdout.write(_PLAIN)
            sys.stdout.flush()
