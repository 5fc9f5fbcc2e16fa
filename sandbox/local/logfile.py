"""What one process writes: a file that the process appends to by itself, so that nobody has to pump a pipe.

The times of lines are those at which `note` first saw them there; the driver calls it a few times a second. The file
is bounded: past its limit the last quarter moves to a second file and the first is emptied (a line that is
written within these microseconds may be lost; disk never is).
"""

from __future__ import annotations

import contextlib
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sandbox.driver import LogLine

LIMIT_BYTES: Final = 4 * 1024 * 1024
MOST_LINES: Final = 2000
_MOST_MARKS: Final = 2048


class LogFile:
    """The output of one process, at most `limit_bytes` and a quarter of it. Offsets inside count from the start
    of all that was ever written."""

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._old = path.with_name(path.name + ".old")
        self._limit_bytes, self._clock = limit_bytes, clock
        self._base = 0
        self._marks: list[tuple[int, float]] = []

    def open(self) -> int:
        """A descriptor for the process to append to; the caller closes its own copy. OSError passes."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self) -> None:
        """Remember that what is there now was there by now; turn the file over when it is too long."""
        try:
            size = self.path.stat().st_size
        except OSError:
            return
        end = self._base + size
        if end > (self._marks[-1][0] if self._marks else 0):
            self._marks.append((end, self._clock()))
            if len(self._marks) > _MOST_MARKS:
                half = len(self._marks) // 2
                self._marks[:half] = self._marks[1:half:2]
        if size > self._limit_bytes:
            with contextlib.suppress(OSError):
                self._turn_over()

    def lines(self, since: float = 0.0) -> tuple[LogLine, ...]:
        """The lines first seen at or after `since` (seconds since the epoch), the last 2,000 of them."""
        # Read first: what is written in between is not there yet, instead of being there without a time.
        texts = list(self._texts())
        self.note()
        if not self._marks:
            return ()
        ends = [end for end, _ in self._marks]
        found = [
            LogLine(at=at, text=text)
            for start, text in texts
            if (at := self._marks[min(bisect_right(ends, start), len(ends) - 1)][1]) >= since
        ]
        return tuple(found[-MOST_LINES:])

    def tail(self, lines: int = 40) -> tuple[str, ...]:
        """The last lines, oldest first."""
        return tuple(line.text for line in self.lines()[-lines:])

    def text(self) -> str:
        """All that is kept."""
        return "\n".join(text for _, text in self._texts())

    def remove(self) -> None:
        for path in (self.path, self._old):
            path.unlink(missing_ok=True)

    def _texts(self) -> Iterator[tuple[int, str]]:
        for path, end in ((self._old, self._base), (self.path, None)):
            try:
                content = path.read_bytes()
            except OSError:
                continue
            offset = self._base if end is None else end - len(content)
            for line in content.splitlines(keepends=True):
                yield offset, line.decode(errors="replace").rstrip("\r\n")
                offset += len(line)

    def _turn_over(self) -> None:
        with self.path.open("r+b") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(size - self._limit_bytes // 4)
            kept = log.read()
            cut = kept.find(b"\n") + 1
            with contextlib.suppress(OSError):  # a full disk: all the more must the file be emptied
                self._old.write_bytes(kept[cut:])
            log.truncate(0)
        self._base += size
