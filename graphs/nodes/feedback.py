"""feedback: the evidence goes back into the same conversation, while iterations are left."""

from __future__ import annotations

from langgraph.runtime import Runtime

from graphs.ports import Ports
from graphs.state import TicketState, ended


async def feedback(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    allowed = runtime.context.max_iterations
    if state["iteration"] < allowed:
        return {"step": "generate"}
    doubt = state.get("doubt", "failed")
    if doubt == "failed":
        return ended("failed", f"out of budget after {allowed} iterations: {state['reason']}")
    return ended(doubt, state["reason"])
