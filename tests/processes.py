"""Processes that tests start themselves: read until they say something, and ended without waiting for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import IO, Any, Final

GRACE_S: Final = 60.0
"""More than a service needs to end on a machine that is ten times slower than usual; less than any test's limit."""


def end(*processes: subprocess.Popen[Any]) -> None:
    """Ask the processes to end, and see that they do.

    One that does not is killed, and AssertionError names it: a tear-down that waits for ever looks like a slow test.
    """
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + GRACE_S
    stubborn = [process for process in processes if not _ends(process, deadline)]
    for process in stubborn:
        process.kill()
        process.wait(GRACE_S)
    named = "; ".join(_shown(process.args) for process in stubborn)
    assert not stubborn, f"killed, since it did not end within {GRACE_S:g} s of being asked to: {named}"


def reap(pid: int) -> int | None:
    """Wait for the end of a child that nobody holds a Popen of; its exit code, None where somebody else reaped it.

    One that does not end is killed, with AssertionError."""
    deadline = time.monotonic() + GRACE_S
    try:
        while not (found := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise AssertionError(f"killed, since it did not end within {GRACE_S:g} s: process {pid}")
            time.sleep(0.02)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(found[1])


def wait_for(text: str, stream: IO[str]) -> str:
    """Read lines until one holds `text`."""
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"the stream ended without {text!r}")


def _ends(process: subprocess.Popen[Any], deadline: float) -> bool:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _shown(args: Any) -> str:
    return " ".join(map(str, args)) if isinstance(args, Sequence) and not isinstance(args, str) else str(args)
