"""The `bash` tool: one command, in a cage around the worktree, gone when it has ended."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field

from harness.agents.anthropic.tools import Tool, ToolInput, own_tool
from harness.commands import Finished, run, scrubbed_env
from sandbox.confinement import Cage, readable_caches

_DEFAULT_TIMEOUT_MS: Final = 120_000
_MAX_TIMEOUT_MS: Final = 600_000

DESCRIPTION: Final = """\
Run a command with bash in the root of the working directory. Every call is a fresh `bash -c`: no folder, variable or \
background process is left of the call before it. Only the working directory and an own /tmp can be written; git can \
read, not write. There is no network, save for a loopback of the command's own, so tests that start a server on \
localhost work. Standard output and standard error come together; of long output the middle is left out. Calls end \
after `timeout_ms` (120000 unless given, 600000 at most) with everything that they started."""


class BashInput(ToolInput):
    command: str = Field(min_length=1)
    timeout_ms: int | None = Field(default=None, ge=1, le=_MAX_TIMEOUT_MS)


@dataclass(frozen=True, slots=True)
class Grounds:
    """Where the worktrees of a run lie, for the cage around each."""

    repo_root: Path
    state: Path
    """`.spurline/`: hidden but for the worktree itself."""
    readable: tuple[Path, ...] = ()
    """What else a command may read of the repository: linked folders such as `.venv` or `node_modules`."""

    def cage(self, worktree: Path) -> Cage:
        """Around a command of an agent: it can change its worktree, but not what git believes of it. The user's own
        checkout is hidden: what git does not track there (`.env` and its like) is none of the agent's business."""
        git = (self.repo_root / ".git", worktree / ".git")
        readable, hidden = (*git, *self.readable, *readable_caches(os.environ)), (self.repo_root, self.state)
        return Cage(writable=(worktree,), readable=readable, hidden=hidden, network=False)


def bash_tool(worktree: Path, grounds: Grounds) -> Tool:
    """The tool for one worktree."""
    cage = grounds.cage(worktree)

    async def answer(given: BashInput) -> str:
        timeout_s = (given.timeout_ms or _DEFAULT_TIMEOUT_MS) / 1000
        argv: Sequence[str] = ["bash", "-c", given.command]
        ended = await run(argv, cwd=worktree, env=scrubbed_env(), timeout_s=timeout_s, cage=cage)
        return shown(ended)

    # What a command prints is the repository's own text (an edit must find it again), and nothing secret is in reach.
    return own_tool(
        "bash",
        DESCRIPTION,
        BashInput,
        answer,
        doing=lambda given: str(given.get("command", "")),
        reads_only=False,
        redacted=False,
    )


def shown(ended: Finished) -> str:
    """A command's end as the model reads it."""
    if ended.timed_out:
        return f"{ended.output}\n[killed: no end within {ended.seconds:.0f} s]"
    return ended.output if ended.code == 0 else f"{ended.output}\n[exit status {ended.code}]"
