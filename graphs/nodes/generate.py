"""generate: the agent works until it says that it is done; what it left is committed."""

from __future__ import annotations

import contextlib
from typing import Final

from langgraph.runtime import Runtime

from graphs.ports import Generated, Ports, Work
from graphs.prompts import nothing_changed, seen_before
from graphs.state import TicketState, ended, work_of
from tasks.errors import SpurlineError

_TREE: Final = 12
"""Hex digits of a tree that are kept: enough to tell a hundred apart."""


async def generate(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
    ports, iteration = runtime.context, state["iteration"] + 1
    work = work_of(state, ports)
    await ports.journal.move(
        work.ticket.id,
        "generating",
        data={"iterations": iteration, "branch": work.branch, "sandbox": work.sandbox},
    )
    generated = await ports.agent.generate(work, await ports.messages.text(state["message"]), iteration)
    begun: TicketState = {"iteration": iteration, "message": ""}
    subject = f"{work.ticket.title}\n\nTicket: {work.ticket.id}"
    if generated.end in ("needs_human", "out_of_budget"):
        # Not to be judged; who carries on finds it there.
        with contextlib.suppress(SpurlineError):
            await ports.workspaces.commit(work, subject)
        if generated.end == "needs_human":
            return {**begun, **ended("needs_human", generated.reason)}
        return {**begun, **ended("failed", f"out of budget: {generated.reason}")}
    commit = await ports.workspaces.commit(work, subject)
    known = commit == state.get("commit")
    if commit is None or (known and not generated.noted):
        return {**begun, **await _told(state, work, ports, nothing_changed(), generated, judged=commit is not None)}
    tree = (await ports.workspaces.tree(commit))[:_TREE]
    if tree in state["seen"].split() and not generated.noted:
        # Another commit, the same files: what was said of them holds, unless the user knows better.
        return {**begun, **await _told(state, work, ports, seen_before(), generated, judged=True)}
    if not known:
        ports.journal.emit("commit.made", work.ticket.id, {"commit": commit, "iteration": iteration})
    # A verdict belongs to one commit.
    return {**begun, "commit": commit, "verdict": "", "nudges": 0, "seen": f"{state['seen']} {tree}", "step": "check"}


async def _told(
    state: TicketState, work: Work, ports: Ports, words: str, generated: Generated, *, judged: bool
) -> TicketState:
    """Tell the agent that there is nothing new to judge; one that knows already is stuck."""
    doubt = state.get("doubt", "failed")
    if generated.end == "stuck":
        return ended(doubt, f"the agent is stuck: {generated.reason}")
    nudges = 1 if generated.noted else state["nudges"] + 1
    if nudges > ports.caps(work.ticket.id).nudges:
        return ended(doubt, f"the agent is stuck: it ended {nudges} turns in a row without anything new to judge")
    ports.journal.emit("agent.nudged", work.ticket.id, {"reason": "nothing new to judge"})
    message = await ports.messages.keep(work.run, work.ticket.id, words)
    again: TicketState = {"message": message, "nudges": nudges, "step": "feedback"}
    # What was found out about a commit that was judged still holds.
    return again if judged else {**again, "doubt": "failed", "reason": "nothing was changed"}
