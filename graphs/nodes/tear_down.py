"""tear_down: let go of sandbox and worktree, then tell how the ticket ended."""

from __future__ import annotations

from langgraph.runtime import Runtime

from graphs.ports import Ports
from graphs.state import TicketState, work_of


async def tear_down(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    ports, work = runtime.context, work_of(state, runtime.context)
    await ports.validator.release(work)
    await ports.workspaces.release(work)
    await ports.journal.move(
        work.ticket.id,
        state["outcome"],
        state["reason"],
        {
            "iterations": state["iteration"],
            "commit": state.get("commit"),
            "verdict": state.get("verdict"),
            "submission": state.get("submission"),
        },
    )
    return {}
