"""Sees to it that nothing outlives the driver: a watchdog for its sudden death, a ledger for the death of both.

Held for as long as the driver lives, together with the lock on its state folder.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sandbox.local import watchdog
from sandbox.local.ledger import Ledger
from tasks.errors import SandboxError, StoreError

_LEFT_BEHIND: Final = ("checkouts", "logs", "router", "git")
"""Folders below the state that live and die with one driver."""

_LOCK_POLL_S: Final = 0.02
_log = logging.getLogger(__name__)


class Guard:
    """Owns the state folder: its lock, its ledger and the watchdog.

    On entry whatever a killed driver left is ended and removed; `removed` names it. SandboxError if another driver
    holds the folder for longer than `patience_s`, StoreError if it cannot be written.
    """

    def __init__(self, state: Path, *, owner: str | None = None, patience_s: float = 0.0) -> None:
        self.state = state
        self._patience_s = patience_s
        self.owner = owner or secrets.token_hex(8)
        self.removed: tuple[str, ...] = ()
        self._ledger = Ledger(state / "started.jsonl")
        self._groups: set[int] = set()
        self._paths: list[Path] = [state / name for name in _LEFT_BEHIND]
        self._watchdog: subprocess.Popen[str] | None = None
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self._lock = _locked(self.state, self._patience_s)
        self.removed = self._clean()
        self._ledger.begin(self.owner)
        self._start_watchdog()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Called when everything has ended in order; what is still marked is swept."""
        watchdog.sweep(self.owner)
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
            self._watchdog.wait()
        self._clean()
        if self._lock is not None:
            os.close(self._lock)

    def add(self, pgid: int) -> None:
        """A process group was started: it dies with the driver."""
        self._groups.add(pgid)
        self._tell(f"add {pgid}")
        self._note(self._ledger.add, pgid)

    def remove(self, pgid: int) -> None:
        """The group has ended and was reaped."""
        self._groups.discard(pgid)
        self._tell(f"remove {pgid}")
        self._note(self._ledger.remove, pgid)

    def add_path(self, path: Path) -> None:
        """A file or folder that goes when the driver dies."""
        self._paths.append(path)
        self._tell(f"path {path}")

    def _note(self, write: Callable[[int], None], pgid: int) -> None:
        """Into the ledger, if it can be written: on a full disk the watchdog alone must do."""
        try:
            write(pgid)
        except OSError as error:
            _log.warning("process %d could not be written down: %s", pgid, error)

    def _start_watchdog(self) -> None:
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, self.owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={},
            text=True,
        )
        for path in self._paths:
            self._tell(f"path {path}")
        for pgid in self._groups:
            self._tell(f"add {pgid}")

    def _tell(self, line: str) -> None:
        """One line to the watchdog; a new one is started where it was killed."""
        assert self._watchdog is not None
        assert self._watchdog.stdin is not None
        try:
            self._watchdog.stdin.write(line + "\n")
            self._watchdog.stdin.flush()
        except BrokenPipeError:
            self._watchdog.wait()
            self._start_watchdog()
            self._tell(line)

    def _clean(self) -> tuple[str, ...]:
        owner, started = self._ledger.read()
        removed = []
        for process in started:
            if process.still_runs:
                os.killpg(process.pid, signal.SIGKILL)
                removed.append(f"process {process.pid}")
        if owner and (swept := watchdog.sweep(owner)):
            removed.append(f"{swept} stray processes")
        for name in _LEFT_BEHIND:
            folder = self.state / name
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(str(folder))
        (self.state / "started.jsonl").unlink(missing_ok=True)
        return tuple(removed)


def _locked(state: Path, patience_s: float) -> int:
    """The descriptor that holds the folder's lock."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        state.chmod(0o700)
        lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"the state folder {str(state)!r} cannot be used: {error.strerror}",
            hint="it must be a folder that you own and can write to",
        ) from error
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                break
            time.sleep(_LOCK_POLL_S)
        else:
            return lock
    os.close(lock)
    raise SandboxError(f"another driver holds {str(state)!r}", hint="use the keeper that runs there, or end it first")
