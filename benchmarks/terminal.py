"""A terminal without a window: a command that draws on it, as its user would see it, and what that costs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

COLUMNS: Final = 132
LINES: Final = 40
_MOST: Final = 1_000_000
"""What was drawn longer ago is forgotten: a benchmark that keeps it all measures itself."""


class Terminal:
    """A command on a terminal. All that it draws is read at once, by a thread."""

    def __init__(self, argv: Sequence[str | Path]) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TEXTUAL_THEME")}
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**env, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            start_new_session=True,
        )
        os.close(theirs)
        self._end, self._drawn, self._heeds = ours, b"", list[Callable[[bytes], None]]()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def heed(self, what: Callable[[bytes], None]) -> None:
        """Call this with all that is drawn from now on, in pieces as they come."""
        self._heeds.append(what)

    def until(self, words: str, timeout_s: float = 60.0) -> tuple[float, float]:
        """Wait for a regular expression in what was drawn; seconds since the start, and what the process used of a
        core by then. TimeoutError where it never comes."""
        wanted = re.compile(words.encode())
        while time.perf_counter() - self.began < timeout_s:
            if wanted.search(self._drawn):
                return time.perf_counter() - self.began, self.cpu_s()
            time.sleep(0.001)
        raise TimeoutError(f"{words} was never drawn: {self._drawn[-2000:]!r}")

    def cpu_s(self) -> float:
        """What all of the process's threads used of a core so far, to the nanosecond."""
        return sum(int(one.read_text().split()[0]) for one in self._tasks()) / 1e9

    def memory_mib(self) -> float:
        """What it has in memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

    def end(self) -> None:
        """End it as a user does who closes the window."""
        self.process.terminate()
        self.process.wait(30)
        self._reader.join(5)
        os.close(self._end)

    def _tasks(self) -> list[Path]:
        return list(Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"))

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._end, 65536)
            except OSError:
                return
            if not piece:
                return
            self._drawn = (self._drawn + piece)[-_MOST:]
            for heed in self._heeds:
                heed(piece)


@contextmanager
def drawn(argv: Sequence[str | Path]) -> Iterator[Terminal]:
    """The command on a terminal, for as long as this lasts."""
    terminal = Terminal(argv)
    try:
        yield terminal
    finally:
        terminal.end()
