"""Processes that tests start themselves: read until they say something, and ended without waiting for ever."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import IO, Any, Final

GRACE_S: Final = 30.0
"""More than a service needs to end on a machine that is ten times slower than usual; less than any test's limit."""


def end(*processes: subprocess.Popen[Any], number: int | None = None) -> None:
    """Ask the processes to end (by `number` instead of SIGTERM), and see that they do.

    One that does not is killed, and AssertionError names it: a tear-down that waits for ever looks like a slow test.
    """
    for process in processes:
        if process.poll() is None:
            process.terminate() if number is None else process.send_signal(number)
    stubborn = [process for process in processes if not _ends(process)]
    for process in stubborn:
        process.kill()
        process.wait(GRACE_S)
    named = "; ".join(_shown(process.args) for process in stubborn)
    assert not stubborn, f"killed, since it did not end within {GRACE_S:g} s of being asked to: {named}"


def wait_for(text: str, stream: IO[str]) -> str:
    """Read lines until one holds `text`."""
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"the stream ended without {text!r}")


def _ends(process: subprocess.Popen[Any]) -> bool:
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _shown(args: Any) -> str:
    return " ".join(map(str, args)) if isinstance(args, Sequence) and not isinstance(args, str) else str(args)
