"""The process that outlives a driver by a second: when the driver's pipe closes, it ends what the driver left.

Run as a script of its own, standard library only: `watchdog.py OWNER`. It reads lines from standard input:
`add PGID`, `remove PGID`, `path PATH` and, at the end of all lines, kills every group that was added and not
removed, then (on Linux) every process whose environment holds `SPURLINE_OWNER=OWNER`, then removes the paths. A
driver that closed in order has removed its groups, and nothing is left to do. A process id that was given to
somebody else since is recognised by its start time and left alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator


def born(pid: int) -> str:
    """When a process started, in the kernel's own words; empty where it is gone or the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def kill_group(pgid: int, born_then: str) -> None:
    """SIGKILL to a group, unless its leader's id belongs to another process by now."""
    born_now = born(pgid)
    if born_now and born_then and born_now != born_then:
        return
    with contextlib.suppress(OSError):
        os.killpg(pgid, signal.SIGKILL)


def marked(owner: str) -> Iterator[int]:
    """Processes whose environment names `owner`, this one left out. Nothing where there is no /proc."""
    mark = f"SPURLINE_OWNER={owner}".encode()
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib costs more memory than all of this script
    except OSError:
        return
    for name in names:
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environ:  # noqa: PTH123
            if mark in environ.read().split(b"\0"):
                yield int(name)


def sweep(owner: str) -> int:
    """Kill everything that is marked until nothing is; how many were killed. A few rounds, since one can fork on."""
    killed = 0
    for _ in range(20):
        pids = list(marked(owner))
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.02)
    return killed


def watch(lines: Iterable[str], owner: str) -> None:
    """Follow the lines to their end, then clean up."""
    groups: dict[int, str] = {}
    paths: list[str] = []
    for line in lines:
        verb, _, what = line.rstrip("\n").partition(" ")
        if verb == "add":
            groups[int(what)] = born(int(what))
        elif verb == "remove":
            groups.pop(int(what), None)
        elif verb == "path":
            paths.append(what)
    for pgid, born_then in groups.items():
        kill_group(pgid, born_then)
    sweep(owner)
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    watch(sys.stdin, sys.argv[1])
