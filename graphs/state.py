"""The state of one ticket's thread: ids, words and small numbers. Primitives only, since checkpoints keep it.

Transcripts, evidence and verdicts lie in the store under their ids; the checkpoint of a ticket stays below a kilobyte.
"""

from __future__ import annotations

from typing import Final, Literal, TypedDict

from graphs.ports import Ports, Work
from tasks.states import FinalState
from tasks.text import one_line

REASON_LIMIT: Final = 280
"""Characters of a reason: it comes from agents and verdicts, and every checkpoint holds it."""

Step = Literal["generate", "check", "instantiate", "validate", "feedback", "submit", "tear_down"]


class TicketState(TypedDict, total=False):
    """One ticket's position."""

    run: str
    ticket: str
    base: str
    branch: str
    worktree: str
    sandbox: str
    attempt: int
    carries_on: int
    """The attempt from whose end this one goes on; not there where it begins anew."""
    iteration: int
    """Passes generate → validate that were begun."""
    failed_verdicts: int
    nudges: int
    """How often in a row the agent was told that it changed nothing."""
    lost: int
    """How often in a row its sandbox was gone when it was to be validated."""
    seen: str
    """The beginnings of the trees that went on from generate, with spaces between: none goes twice."""
    message: str
    """Id of what is said to the agent next; empty where it was said."""
    commit: str
    verdict: str
    """Id of the verdict on `commit`; empty until it is judged."""
    doubt: FinalState
    """How the ticket ends if no further iteration is left: what the last verdict said."""
    step: Step
    """Where to go from here."""
    outcome: FinalState
    reason: str
    submission: str


def work_of(state: TicketState, ports: Ports) -> Work:
    """The agent's place, put together again from the state."""
    return Work(
        run=state["run"],
        ticket=ports.tickets[state["ticket"]],
        branch=state["branch"],
        base=state["base"],
        worktree=state["worktree"],
        sandbox=state["sandbox"],
        attempt=state.get("attempt", 1),
    )


def ended(outcome: FinalState, reason: str) -> TicketState:
    """The update with which a node ends the ticket."""
    return {"outcome": outcome, "reason": one_line(reason, REASON_LIMIT), "step": "tear_down"}
