"""Where concrete parts meet: the only package that knows which class fulfils which port.

`connections` opens what several commands share, `starting` watches a baseline come up, `backlog_run` works a backlog
with the `crew`, `abandonment` cancels what nobody works on, `commit_check` judges one commit. Heavy parts are imported
where they are used: a command pays only for what it needs.
"""

from __future__ import annotations

from harness.runtime.abandonment import abandon_run
from harness.runtime.backlog_run import (
    INTERRUPTED,
    Console,
    RunOptions,
    RunResult,
    join_run,
    resume_run,
    run_backlog,
)
from harness.runtime.commit_check import JudgedCommit, check_commit
from harness.runtime.connections import attached, collect, connected, console_script, opened_store, store_place

__all__ = [
    "INTERRUPTED",
    "Console",
    "JudgedCommit",
    "RunOptions",
    "RunResult",
    "abandon_run",
    "attached",
    "check_commit",
    "collect",
    "connected",
    "console_script",
    "join_run",
    "opened_store",
    "resume_run",
    "run_backlog",
    "store_place",
]
