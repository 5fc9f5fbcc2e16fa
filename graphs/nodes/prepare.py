"""prepare: a worktree and a branch for the agent, and the first message."""

from __future__ import annotations

from langgraph.runtime import Runtime

from graphs.ports import Ports, Work
from graphs.prompts import going_on, opening
from graphs.state import TicketState


async def prepare(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    ports = runtime.context
    ticket = ports.tickets[state["ticket"]]
    await ports.journal.move(ticket.id, "preparing")
    carries_on = state.get("carries_on", 0)
    work = await ports.workspaces.prepare(state["run"], ticket, state.get("attempt", 1), carries_on)
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
        "message": await ports.messages.keep(work.run, ticket.id, await _first_words(work, state, ports)),
        "step": "generate",
    }


async def _first_words(work: Work, state: TicketState, ports: Ports) -> str:
    before = state.get("carries_on", 0)
    if not before or not await ports.agent.carry_on(work, before):
        return opening(work.ticket)
    unheard = state.get("message")
    return going_on(state.get("reason", ""), await ports.messages.text(unheard) if unheard else "")
