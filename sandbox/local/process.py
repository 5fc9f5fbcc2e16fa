"""One child process with all its descendants: a process group that is started, watched and ended as a whole.

The group is killed while its leader's exit is still unread, so the group's id cannot have become somebody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sandbox.confinement import Cage, caged, confinement, executable
from sandbox.local.guard import Guard
from sandbox.local.logfile import LogFile

_POLL_S: Final = 0.02
"""How often exits are looked for where the system has no descriptors for processes (macOS)."""


class Process:
    """A running process group. Made by `Process.start` inside a running event loop."""

    def __init__(self, popen: subprocess.Popen[bytes], guard: Guard, log: LogFile, status: int | None) -> None:
        self.pid = popen.pid
        """The leader's; in a cage that is bubblewrap, and with it everything inside ends."""
        self.log = log
        self.started = time.monotonic()
        self.exit_code: int | None = None
        """Set once the leader has ended: negative for the signal that ended it."""
        self._popen, self._guard = popen, guard
        self._status = status
        """In a cage: where bubblewrap says what it started."""
        self._said = b""
        self._ended = asyncio.Event()
        self._pidfd: int | None = None
        self._poller: asyncio.Task[None] | None = None

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        log: LogFile,
        guard: Guard,
        cage: Cage | None = None,
    ) -> Process:
        """Start `argv` in a session of its own, output into `log`; in `cage` where one can be made. OSError where it
        cannot be executed."""
        status = theirs = None
        output = log.open()
        try:
            if cage is not None and confinement() == "bubblewrap":
                _must_be_executable(argv[0], cwd, env)
                status, theirs = os.pipe()
            with caged(argv, cwd, cage, status_fd=theirs) as (command, inherited):
                popen = subprocess.Popen(
                    command,
                    cwd=cwd,
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=inherited,
                    start_new_session=True,
                )
        except BaseException:
            if status is not None:
                os.close(status)
            raise
        finally:
            os.close(output)
            if theirs is not None:
                os.close(theirs)
        process = cls(popen, guard, log, status)
        try:
            guard.add(popen.pid)
            process._watch()
        except BaseException:
            process._on_exit()
            raise
        return process

    @property
    def alive(self) -> bool:
        return self.exit_code is None

    async def wait(self) -> int:
        """The exit code, once it has ended and its group is gone."""
        await self._ended.wait()
        assert self.exit_code is not None
        return self.exit_code

    async def wait_at_most(self, limit_s: float) -> int | None:
        """The exit code, None if it still runs after the limit."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self.wait(), limit_s)
        return None

    async def stop(self, *, grace_s: float) -> None:
        """SIGTERM to the group; SIGKILL after the grace."""
        if self.alive and grace_s > 0:
            self._ask_to_end()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), grace_s)
        if self.alive:
            self._signal(self.pid, signal.SIGKILL)
        await self._ended.wait()

    def ended(self) -> str:
        """How it ended, for people."""
        if self.exit_code is None:
            return "still runs"
        if self.exit_code < 0:
            return f"was ended by {signal.Signals(-self.exit_code).name}"
        return f"ended with exit code {self.exit_code}"

    def _watch(self) -> None:
        if hasattr(os, "pidfd_open"):
            self._when_gone(self.pid, self._on_exit)
        else:
            self._poller = asyncio.get_running_loop().create_task(self._poll(), name=f"exit of {self.pid}")

    def _when_gone(self, pid: int, then: Callable[[], None]) -> None:
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, then)

    def _unwatch(self) -> None:
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    async def _poll(self) -> None:
        while self._popen.poll() is None:  # noqa: ASYNC110 - nothing tells us but asking
            await asyncio.sleep(_POLL_S)
        self._on_exit()

    def _on_exit(self) -> None:
        self._unwatch()
        inside = self._inside()
        self._signal(self.pid, signal.SIGKILL)
        self.exit_code = code = self._popen.wait()
        if self._status is not None:
            os.close(self._status)
            # Bubblewrap says as shells do which signal ended the program.
            self.exit_code = 128 - code if 128 < code < 128 + signal.NSIG else code
        self._guard.remove(self.pid)
        # What was inside is dying, and may hold its port for a moment yet.
        if inside is not None and hasattr(os, "pidfd_open"):
            with contextlib.suppress(ProcessLookupError):
                self._when_gone(inside, self._on_end)
                if code < 0:  # killed while a cage was being built, bubblewrap may leave it behind
                    os.kill(inside, signal.SIGKILL)
                return
        self._on_end()

    def _on_end(self) -> None:
        self._unwatch()
        self._ended.set()

    def _inside(self) -> int | None:
        """The first process in the cage, which leads its group and takes everything inside along; None without one, or
        before there is one."""
        if self._status is None:
            return None
        if select.select([self._status], [], [], 0)[0]:
            self._said += os.read(self._status, 4096)
        line, _, rest = self._said.partition(b"\n")
        return int(json.loads(line)["child-pid"]) if rest or self._said.endswith(b"\n") else None

    def _ask_to_end(self) -> None:
        """SIGTERM to the group. Bubblewrap would end by it and pass nothing on; the first process in a cage leads the
        group there and is no victim of such a signal."""
        group = self.pid if self._status is None else self._inside()
        if group is not None:
            self._signal(group, signal.SIGTERM)

    def _signal(self, group: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses a group of zombies
            os.killpg(group, number)


def _must_be_executable(name: str, cwd: Path, env: Mapping[str, str]) -> None:
    """Raise what starting the program outside of a cage would raise."""
    if executable(name, cwd, env) is None:
        path = str(cwd / name) if "/" in name else name
        reason = errno.EACCES if "/" in name and os.path.exists(path) else errno.ENOENT  # noqa: PTH110
        raise OSError(reason, os.strerror(reason), path)
