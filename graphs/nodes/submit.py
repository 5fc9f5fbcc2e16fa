"""submit: hand over exactly the commit that was judged."""

from __future__ import annotations

from langgraph.runtime import Runtime

from graphs.ports import Ports
from graphs.state import TicketState, ended, work_of


async def submit(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    ports, work = runtime.context, work_of(state, runtime.context)
    await ports.journal.move(work.ticket.id, "submitting")
    submission = await ports.submitter.submit(work, state["commit"], state["verdict"])
    return {"submission": submission, **ended("verified", state["reason"])}
