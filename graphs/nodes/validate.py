"""validate: checks with the routing key against the real baseline, and the verdict on this commit."""

from __future__ import annotations

from typing import Final

from langgraph.runtime import Runtime

from graphs.nodes.weigh import weigh
from graphs.ports import Ports
from graphs.state import TicketState, work_of
from tasks.errors import SandboxGone

_LOST: Final = 2
"""So often in a row is a sandbox that is gone replaced."""


async def validate(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    ports, work = runtime.context, work_of(state, runtime.context)
    await ports.journal.move(work.ticket.id, "validating")
    try:
        verdict = await ports.validator.validate(work, state["commit"], state["iteration"])
    except SandboxGone:
        # Its lease ended while nobody worked on the ticket, or the driver was restarted: fork the same commit anew.
        lost = state["lost"] + 1
        if lost > _LOST:
            raise
        ports.journal.emit("sandbox.gone", work.ticket.id, {"times": lost})
        return {"lost": lost, "step": "instantiate"}
    return await weigh(verdict, state, work, ports)
