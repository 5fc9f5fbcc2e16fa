"""What tests of the installed command line share: running `spurline` as a user does, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from sandbox.keys import TRACE_MARK

SCRIPT = Path(sys.executable).with_name("spurline")
KEYED_TRACE: Final = rf"(?<![0-9a-f]){TRACE_MARK}[0-9a-f]{{28}}(?![0-9a-f])"
"""A trace id that carries a key, and not a part of a longer id that happens to look like one."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Each line of stdout as a JSON object."""
        return [json.loads(line) for line in self.out.splitlines()]


Spurline = Callable[..., Ran]


@pytest.fixture(scope="session")
def spurline() -> Spurline:
    """Run `spurline ARGUMENTS…` in the folder `cwd` to its end, off a terminal; `env` comes on top of the usual."""

    def run(*arguments: str, cwd: Path, timeout_s: float = 110.0, env: Mapping[str, str] | None = None) -> Ran:
        done = subprocess.run(
            [SCRIPT, *arguments],
            cwd=cwd,
            env={**environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture(scope="session")
def script() -> Path:
    """The installed console script, for tests that need the process itself."""
    return SCRIPT


def environment() -> dict[str, str]:
    """What a command is started with: nothing of a developer's own settings."""
    unwanted = ("ANTHROPIC_", "SPURLINE_", "GIT_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "GIT_CONFIG_GLOBAL": os.devnull, "TERM": "xterm-256color"}
