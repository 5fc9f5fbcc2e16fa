"""The one error tree. Every error a user can meet has a stable code, names its thing, and says the way out.

    SpurlineError
     ├─ UsageError            exit 2: bad input on the command line or in a file
     │   └─ ConfigError       … at a place in a file: path, line, key
     ├─ EnvironmentFault      exit 3: baseline, router, model or database; never the agent's fault
     │   ├─ BaselineError     the baseline did not come up, is sick, or changed its version
     │   ├─ SandboxError      a sandbox or its router could not do what was asked
     │   │   ├─ SandboxGone   it expired, was deleted, or its owner died
     │   │   ├─ SandboxTaken  another one that lives has this name
     │   │   └─ ForkError     the changed workload did not build or start: evidence, with its last lines
     │   ├─ ModelError        the model could not be reached or refused for good
     │   └─ StoreError        the state in .spurline/ cannot be read or written
     └─ CheckoutError         git could not give us what we asked for

Signals (pause, drain, out of budget) are not errors and are not here.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar


def disk_is_full(error: OSError) -> bool:
    """Whether it is the disk, or our share of it, that has no room left: no defect, and nobody's but its user's."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class SpurlineError(Exception):
    """Something went wrong in Spurline."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SpurlineError):
    """The command or its input cannot be used as given."""

    code = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """A file says something that Spurline cannot use. Names the file, the line and the key."""

    code = "config"

    def __init__(self, message: str, *, path: Path, line: int | None = None, key: str = "", hint: str = "") -> None:
        place = f"{path}:{line}" if line is not None else str(path)
        at_key = f" at {key!r}" if key else ""
        super().__init__(f"{place}{at_key}: {message}", hint=hint)
        self.path, self.line, self.key, self.problem = path, line, key, message


class EnvironmentFault(SpurlineError):
    """The environment failed: never counted against an agent, never shown to it."""

    code = "environment"
    exit_code = 3
    transient = True
    """Whether it may pass by itself: then what broke off by it is tried again."""


class BaselineError(EnvironmentFault):
    """The baseline did not come up, is sick, or is of another version."""

    code = "baseline"


class SandboxError(EnvironmentFault):
    """A sandbox could not do what was asked."""

    code = "sandbox"


class SandboxGone(SandboxError):
    """The sandbox expired or was deleted."""

    code = "sandbox-gone"


class SandboxTaken(SandboxError):
    """A sandbox of this name lives already."""

    code = "sandbox-taken"


class ForkError(SandboxError):
    """A changed workload did not build or did not get ready. This is the change's own doing: evidence."""

    code = "fork"

    def __init__(self, message: str, *, service: str, stage: str, log: tuple[str, ...], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.service = service
        self.stage = stage
        """`build` or `start`."""
        self.log = log
        """The last lines that the build or the process wrote, oldest first."""


class ModelError(EnvironmentFault):
    """The model could not be reached, or (not `transient`) refused for good."""

    code = "model"

    def __init__(self, message: str, *, hint: str = "", transient: bool = True, of_all: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.transient = transient
        self.of_all = of_all
        """Whether every other call would be refused like this one: what is wrong is the account, not the call."""


class StoreError(EnvironmentFault):
    """The state on disk cannot be read or written."""

    code = "store"


class CheckoutError(SpurlineError):
    """git could not give the commit, worktree or difference that was asked for."""

    code = "checkout"
    exit_code = 2
