"""feedback: the evidence goes back into the same conversation, while iterations are left."""

from __future__ import annotations

from langgraph.runtime import Runtime

from graphs.ports import Ports
from graphs.state import TicketState, ended


async def feedback(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    caps = runtime.context.caps(state["ticket"])
    if state["iteration"] >= caps.iterations:
        spent = f"{caps.iterations} iterations"
    elif state["failed_verdicts"] >= caps.failed_verdicts:
        spent = f"{caps.failed_verdicts} failed verdicts"
    else:
        return {"step": "generate"}
    doubt = state.get("doubt", "failed")
    if doubt == "failed":
        return ended("failed", f"out of budget after {spent}: {state['reason']}")
    return ended(doubt, state["reason"])
