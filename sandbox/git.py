"""git, started so that nothing of what it reads can make it run something else.

Hooks, filters, monitors, pagers and aliases of the system, the user and the repository are off; only objects are read.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from tasks.errors import CheckoutError

_TIMEOUT_S: Final = 300.0
_SAFE: Final = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor="),
    *("-c", "core.untrackedCache=false"),
    *("-c", "core.pager=cat"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
    *("-c", "commit.gpgSign=false"),
    *("-c", "protocol.allow=never"),
    *("-c", "submodule.recurse=false"),
    *("-c", "diff.ignoreSubmodules=all"),
    *("-c", "core.quotePath=false"),
    # Protects against configuration that runs code; none of it is left.
    *("-c", "safe.directory=*"),
)


# git does not always say why it could not write; where the reason is another one, it does.
_FULL: Final = re.compile(
    r"No space left|Disk quota exceeded|Out of diskspace|unable to write(?! .*: )|failed to write(?! .*: )"
)


class GitFailed(CheckoutError):
    """git ended with an error; `words` is what it said."""

    def __init__(self, words: str, arguments: Sequence[str]) -> None:
        super().__init__(f"git: {words or 'failed without a word: ' + ' '.join(arguments)}")
        self.words = words

    @property
    def disk_is_full(self) -> bool:
        return _FULL.search(self.words) is not None

    @property
    def not_a_repository(self) -> bool:
        return "not a git repository" in self.words or "cannot change to" in self.words


async def run_git(
    arguments: Sequence[str], *, env: Mapping[str, str] | None = None, data: bytes | None = None
) -> bytes:
    """Run git in a thread, to its end even where the caller is cancelled; its standard output.

    Raises GitFailed, or CheckoutError where git is missing or took longer than five minutes.
    """
    running = asyncio.ensure_future(asyncio.to_thread(_run, arguments, env or {}, data))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _run(arguments: Sequence[str], env: Mapping[str, str], data: bytes | None) -> bytes:
    argv = ["git", *_SAFE, *arguments]
    env = {**_environment(), **env}
    try:
        done = subprocess.run(argv, env=env, input=data or b"", capture_output=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise CheckoutError("git is not installed", hint="install git 2.30 or newer") from None
    except subprocess.TimeoutExpired:
        raise CheckoutError(f"git took longer than {_TIMEOUT_S:.0f} s: {' '.join(arguments)}") from None
    if done.returncode != 0:
        raise GitFailed(done.stderr.decode(errors="replace").strip(), arguments)
    return done.stdout


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        # A replacement reference would make a commit's content read differently than it is.
        "GIT_NO_REPLACE_OBJECTS": "1",
    }
