"""Commands of agents and checks, run so that they can neither outlive us nor reach what is not theirs.

What always holds, whatever the command does:

* It runs in a process group of its own. The group is killed when its leader has ended, at the time limit, when the
  caller is cancelled, and (by the reaper, one small process) when we ourselves are killed.
* Its output is merged, and kept up to a limit: the head and the tail, never all of it in memory.
* A command that fails, or that cannot even be started, is a result and not an exception.

With a `Cage`, and where bubblewrap works, it also sees a file system that is read-only but for the writable folders, a
fresh `/tmp` and home, and no network. Where bubblewrap is missing only the scrubbed environment and the group are left;
`sandbox.confinement` says which of the two it is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from harness.supervision import MARK, Capture, Reaper, pump
from sandbox.confinement import Cage, caged, executable, scrubbed

NOT_STARTED: Final = 127
"""The code of a command that could not be started, as shells have it."""

# More than any limit on agents and checks at once: a command waits for its own end, never for a thread.
_MAX_COMMANDS: Final = 512
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    code: int | None
    """The exit status; 128 + n when signal n ended it, as shells have it; 127 when it could not be started. None when
    it was killed at its time limit."""
    output: str
    """Standard output and standard error, merged; raw text, at most about `output_limit` long."""
    timed_out: bool
    seconds: float


def scrubbed_env(extra: Mapping[str, str] = _NONE) -> dict[str, str]:
    """The environment of commands: what of ours may be handed on, and `extra`."""
    return {**scrubbed(os.environ), "TERM": "dumb", **extra}


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout_s: float,
    cage: Cage | None,
    output_limit: int = 64_000,
    stdin: bytes | None = None,
) -> Finished:
    """Run `argv` in `cwd` to its end, its time limit or our cancellation; then nothing of its group is left.

    `env` is all of the environment, but for a mark of ours. `output_limit` is in bytes. Raises nothing but
    CancelledError."""
    command = _Command(tuple(argv), cwd, dict(env), timeout_s, cage, output_limit, stdin)
    # A thread a command: asyncio's child watchers cost several times that with a hundred short commands at once.
    ending = asyncio.get_running_loop().run_in_executor(_pool(), command.run)
    try:
        return await asyncio.shield(ending)
    except asyncio.CancelledError:
        command.kill()
        await asyncio.wait({ending})
        raise


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MAX_COMMANDS, thread_name_prefix="command")


@cache
def _reaper() -> Reaper:
    return Reaper.start()


class _Command:
    """One command, run by one thread; `kill` may come from another one at any moment."""

    def __init__(
        self,
        argv: tuple[str, ...],
        cwd: Path,
        env: dict[str, str],
        timeout_s: float,
        cage: Cage | None,
        output_limit: int,
        stdin: bytes | None,
    ) -> None:
        self._argv, self._cwd, self._env, self._cage = argv, cwd, env, cage
        self._timeout_s, self._output_limit, self._stdin = timeout_s, output_limit, stdin
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def run(self) -> Finished:
        began = time.monotonic()

        def finished(code: int | None, output: str) -> Finished:
            return Finished(code, output, timed_out=code is None, seconds=time.monotonic() - began)

        if (problem := self._problem()) is not None:
            return finished(NOT_STARTED, problem)
        try:
            process = self._start()
        except (OSError, ValueError) as error:
            return finished(NOT_STARTED, f"{self._argv[0]}: cannot be started: {error}")
        capture = Capture(self._output_limit)
        try:
            in_time = pump(process, self._stdin, capture, deadline=began + self._timeout_s, end_group=self.kill)
        finally:
            self._end(process)
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        return finished(code if in_time else None, capture.text())

    def kill(self) -> None:
        """Kill the group, or keep the command from being started."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                _kill_group(self._process.pid)

    def _problem(self) -> str | None:
        if not self._cwd.is_dir():
            return f"{self._cwd}: no such folder to run {self._argv[0]!r} in"
        if executable(self._argv[0], self._cwd, self._env) is None:
            return f"{self._argv[0]}: command not found"
        return None

    def _start(self) -> subprocess.Popen[bytes]:
        # The reaper first: we may be killed in any moment after the command has begun.
        reaper = _reaper()
        with caged(self._argv, self._cwd, self._cage) as (argv, inherited), self._lock:
            if self._killed:
                raise OSError("cancelled before it began")
            self._process = subprocess.Popen(
                argv,
                cwd=self._cwd,
                env={**self._env, MARK: reaper.mark},
                stdin=subprocess.DEVNULL if self._stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=inherited,
                start_new_session=True,
            )
        reaper.watch(self._process.pid)
        return self._process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        # The leader is reaped last: as long as it is a zombie its number cannot be given to another group.
        _kill_group(process.pid)
        process.wait()
        with self._lock:
            self._process = None
        _reaper().forget(process.pid)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # Gone; or, on macOS, nothing but zombies.
        return
