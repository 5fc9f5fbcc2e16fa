"""Where concrete parts meet: the only package that knows which class fulfils which port.

`connections` opens what several commands share, `starting` watches a baseline come up, `backlog_run` works a backlog
with the `crew`, `commit_check` judges one commit. Heavy parts are imported where they are used: a command pays only for
what it needs.
"""

from __future__ import annotations

from harness.runtime.backlog_run import RunOptions, RunResult, run_backlog
from harness.runtime.commit_check import JudgedCommit, check_commit
from harness.runtime.connections import attached, collect, connected, console_script, opened_store

__all__ = [
    "JudgedCommit",
    "RunOptions",
    "RunResult",
    "attached",
    "check_commit",
    "collect",
    "connected",
    "console_script",
    "opened_store",
    "run_backlog",
]
