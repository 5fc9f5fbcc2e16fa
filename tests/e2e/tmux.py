"""A real terminal (tmux) with a shell in it: what is typed, and what stands there then."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.conftest import environment

PATIENCE_S: Final = 60.0


@dataclass(frozen=True)
class Terminal:
    """A terminal of tmux with a shell in it, on a server of its own."""

    server: str

    def tmux(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-L", self.server, *arguments], check=True, capture_output=True, text=True
        ).stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "screen", *keys)

    def text(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "screen")

    def until(self, *words: str, without: str | None = None) -> str:
        """Wait until all `words` stand there, and `without` does not; what stands there then."""
        deadline = time.monotonic() + PATIENCE_S
        text = ""
        while time.monotonic() < deadline:
            text = self.text()
            if all(word in text for word in words) and (without is None or without not in text):
                return text
            time.sleep(0.1)
        raise AssertionError(f"{words} never came; what stands there is\n{text}")


@contextmanager
def opened_terminal(folder: Path, script: Path, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """A terminal of 100 by 24 in this folder, in which `spurline` is the installed one; `env` comes on top."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    found = Terminal(f"spurline-{secrets.token_hex(4)}")
    given = {**environment(), "PATH": f"{script.parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    # These tests may run in CI; who sits at this terminal does not.
    given.pop("CI", None)
    given |= env or {}
    size = ("-x", "100", "-y", "24")
    argv = ["tmux", "-L", found.server, "-f", os.devnull, "new-session", "-d", "-s", "screen", *size]
    # A command in words is run by no shell of the user's.
    subprocess.run([*argv, "-c", str(folder), "env", "sh"], check=True, env=given)
    try:
        yield found
    finally:
        found.tmux("kill-server")
