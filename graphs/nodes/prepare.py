"""prepare: a worktree and a branch for the agent, and the first message."""

from __future__ import annotations

from langgraph.runtime import Runtime

from graphs.ports import Ports
from graphs.prompts import opening
from graphs.state import TicketState


async def prepare(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    ports = runtime.context
    ticket = ports.tickets[state["ticket"]]
    await ports.journal.move(ticket.id, "preparing")
    work = await ports.workspaces.prepare(state["run"], ticket, state.get("attempt", 1))
    return {
        "base": work.base,
        "branch": work.branch,
        "worktree": work.worktree,
        "sandbox": work.sandbox,
        "iteration": 0,
        "failed_verdicts": 0,
        "nudges": 0,
        "lost": 0,
        "seen": "",
        "message": await ports.messages.keep(work.run, ticket.id, opening(ticket)),
        "step": "generate",
    }
