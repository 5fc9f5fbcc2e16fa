"""check: the project's own linters and type checkers, before anything is started."""

from __future__ import annotations

from langgraph.runtime import Runtime

from graphs.ports import Ports
from graphs.prompts import static_feedback
from graphs.state import TicketState, work_of


async def check(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    ports, work = runtime.context, work_of(state, runtime.context)
    await ports.journal.move(work.ticket.id, "checking", data={"commit": state["commit"]})
    output = await ports.validator.static(work, state["commit"])
    ports.journal.emit("static.finished", work.ticket.id, {"passed": output is None})
    if output is None:
        return {"step": "instantiate"}
    message = await ports.messages.keep(work.run, work.ticket.id, static_feedback(output))
    return {"message": message, "doubt": "failed", "reason": "a static check fails", "step": "feedback"}
