"""Whether a process that was written down still lives: it, and not another one that the system gave its id to."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Final

import psutil

_SAME_START_S: Final = 0.05 if sys.platform == "linux" else 2.0
"""Where a start is told by the clock, it moves a little as the clock is set."""


def born_at(pid: int) -> float | None:
    """When the process began, also where it is dead and its parent has not looked after it yet; None where there is
    none.

    Seconds since the machine began (see `boot`), so that no setting of the clock changes them; where that is not told
    (macOS), since the epoch."""
    seen = _seen(pid)
    return None if seen is None else seen[0]


def lives(pid: int, born: float) -> bool:
    """Whether the process that began then still runs."""
    seen = _seen(pid)
    return seen is not None and not seen[1] and _same(seen[0], born)


def keeps_id(pid: int, born: float) -> bool:
    """Whether the id still is that of the process that began then. It may be dead, and others of its group may not."""
    seen = _seen(pid)
    return seen is not None and _same(seen[0], born)


@cache
def boot() -> str:
    """Which beginning of the machine `born_at` counts from; empty where it counts from none."""
    if sys.platform != "linux":
        return ""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _same(born: float, other: float) -> bool:
    return abs(born - other) < _SAME_START_S


def _seen(pid: int) -> tuple[float, bool] | None:
    """When the process began, and whether it is dead by now."""
    if sys.platform == "linux":
        try:
            state, *more = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return int(more[18]) / os.sysconf("SC_CLK_TCK"), state in "ZX"
    try:
        process = psutil.Process(pid)
        return process.create_time(), process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
