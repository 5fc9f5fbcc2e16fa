"""generate: the agent works until it says that it is done; what it left is committed."""

from __future__ import annotations

from langgraph.runtime import Runtime

from graphs.ports import Ports
from graphs.prompts import nothing_changed
from graphs.state import TicketState, ended, work_of


async def generate(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    ports, iteration = runtime.context, state["iteration"] + 1
    work = work_of(state, ports)
    await ports.journal.move(
        work.ticket.id,
        "generating",
        data={"iterations": iteration, "branch": work.branch, "sandbox": work.sandbox},
    )
    generated = await ports.agent.generate(work, await ports.messages.text(state["message"]))
    begun: TicketState = {"iteration": iteration}
    if generated.end == "needs_human":
        return {**begun, **ended("needs_human", generated.reason)}
    if generated.end == "out_of_budget":
        return {**begun, **ended("failed", f"out of budget: {generated.reason}")}
    commit = await ports.workspaces.commit(work, f"{work.ticket.title}\n\nTicket: {work.ticket.id}")
    if commit is None or commit == state.get("commit"):
        if generated.end == "stuck":
            return {**begun, **ended(state.get("doubt", "failed"), f"the agent is stuck: {generated.reason}")}
        message = await ports.messages.keep(work.run, work.ticket.id, nothing_changed())
        again: TicketState = {**begun, "message": message, "step": "feedback"}
        if commit is not None:
            # What was found out about this commit still holds.
            return again
        return {**again, "doubt": "failed", "reason": "nothing was changed"}
    ports.journal.emit("commit.made", work.ticket.id, {"commit": commit, "iteration": iteration})
    # A verdict belongs to one commit.
    return {**begun, "commit": commit, "verdict": "", "step": "check"}
