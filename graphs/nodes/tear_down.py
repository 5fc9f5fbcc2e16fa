"""tear_down: let go of sandbox and worktree, then tell how the ticket ended."""

from __future__ import annotations

import contextlib
from typing import Any

from langgraph.runtime import Runtime

from graphs.ports import Ports
from graphs.state import TicketState, work_of
from tasks.errors import SpurlineError


async def tear_down(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    ports, work = runtime.context, work_of(state, runtime.context)
    # How the ticket ends is settled. What cannot be let go of now ends with its lease, or when the run is over.
    with contextlib.suppress(SpurlineError):
        await ports.validator.release(work)
    with contextlib.suppress(SpurlineError):
        await ports.workspaces.release(work)
    await ports.journal.move(work.ticket.id, state["outcome"], state["reason"], what_came(state))
    return {}


def what_came(state: TicketState) -> dict[str, Any]:
    """What is noted of a ticket with its end."""
    return {
        "iterations": state["iteration"],
        "commit": state.get("commit"),
        "verdict": state.get("verdict") or None,
        "submission": state.get("submission"),
    }
