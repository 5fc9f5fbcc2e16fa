"""Sees to it that nothing outlives the driver: a watchdog for its sudden death, a ledger for the death of both.

Held for as long as the driver lives, together with the lock on its state folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sandbox.filelock import taken
from sandbox.local import watchdog
from sandbox.local.ledger import Ledger
from tasks.errors import SandboxError, StoreError

_LEFT_BEHIND: Final = ("checkouts", "logs", "router", "git")
"""Folders below the state that live and die with one driver."""

_LEDGER: Final = "started.jsonl"

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
        self._ledger = Ledger(state / _LEDGER)
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
        found = _Leftovers.of(self.state)
        found.remove()
        (self.state / _LEDGER).unlink(missing_ok=True)
        return found.names


def leftovers(state: Path) -> tuple[str, ...]:
    """What the next driver on `state` will end and remove on entry; it stays as it is.

    SandboxError while a driver holds the folder: what is there is that one's own.
    """
    if not state.is_dir():
        return ()
    lock = _locked(state, patience_s=0.0)
    try:
        return _Leftovers.of(state).names
    finally:
        os.close(lock)


@dataclass(frozen=True, slots=True)
class _Leftovers:
    """What outlived its driver."""

    owner: str
    groups: tuple[int, ...]
    strays: int
    """Marked processes of other groups."""
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, state: Path) -> Self:
        owner, started = Ledger(state / _LEDGER).read()
        groups = tuple(process.pid for process in started if process.still_runs)
        strays = sum(_group_of(pid) not in groups for pid in watchdog.marked(owner)) if owner else 0
        folders = tuple(path for path in (state / name for name in _LEFT_BEHIND) if path.is_dir())
        return cls(owner, groups, strays, folders)

    @property
    def names(self) -> tuple[str, ...]:
        processes = [f"process {pid}" for pid in self.groups]
        strays = [f"{self.strays} stray processes"] if self.strays else []
        return (*processes, *strays, *map(str, self.folders))

    def remove(self) -> None:
        for pid in self.groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        if self.owner:
            # Also where none was seen: one may have left its group meanwhile.
            watchdog.sweep(self.owner)
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


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
    while not taken(lock):
        if time.monotonic() >= deadline:
            os.close(lock)
            raise SandboxError(
                f"another driver holds {str(state)!r}", hint="use the keeper that runs there, or end it first"
            )
        time.sleep(_LOCK_POLL_S)
    return lock
