"""Whether a process that was written down still lives: it, and not another one that the system gave its id to."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import psutil

_SAME_START_S: Final = 2.0
"""Where a start is told by the clock, it moves a little as the clock is set."""


def born_at(pid: int) -> float | None:
    """When the process began; None where there is none, or a dead one that its parent has not looked after yet.

    Seconds since the machine began, so that no setting of the clock changes them; where that is not told (macOS), since
    the epoch."""
    if sys.platform == "linux":
        try:
            state, *more = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return None if state in "ZX" else int(more[18]) / os.sysconf("SC_CLK_TCK")
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def lives(pid: int, born: float) -> bool:
    """Whether the process that began then is still there."""
    now = born_at(pid)
    return now is not None and abs(now - born) < _SAME_START_S
