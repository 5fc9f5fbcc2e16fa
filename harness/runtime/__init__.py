"""Where concrete parts meet: the only package that knows which class fulfils which port.

`connections` opens what several commands share, `starting` watches a baseline come up. A run is begun (`beginning`),
taken up again (`resuming`) or joined (`joining`); each of them works it with the `crew` in a `workplace`. `abandonment`
cancels what nobody works on, `keeping` keeps sandboxes, `commit_check` judges one commit. Heavy parts are imported
where they are used: a command pays only for what it needs.
"""

from __future__ import annotations

from harness.runtime.abandonment import abandon_run
from harness.runtime.beginning import run_backlog
from harness.runtime.commit_check import JudgedCommit, check_commit
from harness.runtime.connections import attached, collect, connected, console_script, opened_store, store_place
from harness.runtime.joining import join_run
from harness.runtime.keeping import Kept, keep_sandboxes
from harness.runtime.resuming import resume_run
from harness.runtime.run_values import INTERRUPTED, Console, RunOptions, RunResult

__all__ = [
    "INTERRUPTED",
    "Console",
    "JudgedCommit",
    "Kept",
    "RunOptions",
    "RunResult",
    "abandon_run",
    "attached",
    "check_commit",
    "collect",
    "connected",
    "console_script",
    "join_run",
    "keep_sandboxes",
    "opened_store",
    "resume_run",
    "run_backlog",
    "store_place",
]
