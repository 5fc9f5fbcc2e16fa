"""One child process with all its descendants: a process group that is started, watched and ended as a whole.

The group is killed while its leader's exit is still unread, so the group's id cannot have become somebody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sandbox.local.guard import Guard
from sandbox.local.logfile import LogFile

_POLL_S: Final = 0.02
"""How often exits are looked for where the system has no descriptors for processes (macOS)."""


class Process:
    """A running process group. Made by `Process.start` inside a running event loop."""

    def __init__(self, popen: subprocess.Popen[bytes], guard: Guard, log: LogFile) -> None:
        self.pid = popen.pid
        self.log = log
        self.started = time.monotonic()
        self.exit_code: int | None = None
        """Set once the leader has ended: negative for the signal that ended it."""
        self._popen, self._guard = popen, guard
        self._ended = asyncio.Event()
        self._pidfd: int | None = None
        self._poller: asyncio.Task[None] | None = None

    @classmethod
    def start(cls, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: LogFile, guard: Guard) -> Process:
        """Start `argv` in a session of its own, output into `log`. OSError where it cannot be executed."""
        output = log.open()
        try:
            popen = subprocess.Popen(
                argv,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        process = cls(popen, guard, log)
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
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), grace_s)
        if self.alive:
            self._signal(signal.SIGKILL)
        await self._ended.wait()

    def ended(self) -> str:
        """How it ended, for people."""
        if self.exit_code is None:
            return "still runs"
        if self.exit_code < 0:
            return f"was ended by {signal.Signals(-self.exit_code).name}"
        return f"ended with exit code {self.exit_code}"

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self.pid)
            loop.add_reader(self._pidfd, self._on_exit)
        else:
            self._poller = loop.create_task(self._poll(), name=f"exit of {self.pid}")

    async def _poll(self) -> None:
        while self._popen.poll() is None:  # noqa: ASYNC110 - nothing tells us but asking
            await asyncio.sleep(_POLL_S)
        self._on_exit()

    def _on_exit(self) -> None:
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        self._signal(signal.SIGKILL)
        self.exit_code = self._popen.wait()
        self._guard.remove(self.pid)
        self._ended.set()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses a group of zombies
            os.killpg(self.pid, number)
