"""instantiate: fork what the commit changed, or update the forks that are there."""

from __future__ import annotations

from langgraph.runtime import Runtime

from graphs.nodes.weigh import weigh
from graphs.ports import Ports
from graphs.state import TicketState, work_of


async def instantiate(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    ports, work = runtime.context, work_of(state, runtime.context)
    await ports.journal.move(work.ticket.id, "instantiating")
    verdict = await ports.validator.instantiate(work, state["commit"])
    if verdict is None:
        return {"step": "validate"}
    return await weigh(verdict, state, work, ports)
