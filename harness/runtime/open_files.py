"""Open files: each agent has a connection to its model, and files or a command beside it.

What a system lets a process have by default is too little for many hundred agents, and running out of them shows late:
as connections that fail and are tried again.
"""

from __future__ import annotations

import resource
from typing import Final

from tasks.errors import UsageError

_BESIDE: Final = 200
"""The store, the keeper's connections, the checks, Python's own."""
_AN_AGENT: Final = 2


def allow_open_files(agents: int) -> None:
    """Let this process have as many as so many agents need, and no more: its children inherit it. UsageError where the
    system does not let it."""
    needed = _BESIDE + _AN_AGENT * agents
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UsageError(
            f"{agents} agents at once need {needed} open files, and this process may have {hard}",
            hint=f"raise the limit (`ulimit -Hn {needed}`), or say --agents {max(1, (hard - _BESIDE) // _AN_AGENT)}",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
