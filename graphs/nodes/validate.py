"""validate: checks with the routing key against the real baseline, and the verdict on this commit."""

from __future__ import annotations

from langgraph.runtime import Runtime

from graphs.nodes.weigh import weigh
from graphs.ports import Ports
from graphs.state import TicketState, work_of


async def validate(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    ports, work = runtime.context, work_of(state, runtime.context)
    await ports.journal.move(work.ticket.id, "validating")
    verdict = await ports.validator.validate(work, state["commit"], state["iteration"])
    return await weigh(verdict, work, ports)
