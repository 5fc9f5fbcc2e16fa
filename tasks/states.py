"""States of an agent, and the moves between them. The words are part of the contract with users."""

from __future__ import annotations

from typing import Final, Literal, get_args

WorkingState = Literal[
    "queued", "preparing", "generating", "checking", "instantiating", "validating", "submitting", "paused"
]
FinalState = Literal["verified", "failed", "unproven", "needs_human", "error", "cancelled"]
AgentState = WorkingState | FinalState

FINAL_STATES: Final[tuple[FinalState, ...]] = get_args(FinalState)
WORKING_STATES: Final[tuple[WorkingState, ...]] = get_args(WorkingState)

_NEXT: Final[dict[str, frozenset[str]]] = {
    "queued": frozenset({"preparing"}),
    "preparing": frozenset({"generating"}),
    "generating": frozenset({"checking", "generating"}),
    "checking": frozenset({"instantiating", "generating", "validating"}),
    "instantiating": frozenset({"validating", "generating"}),
    "validating": frozenset({"submitting", "generating", "instantiating"}),
    "submitting": frozenset(),
    "paused": frozenset(WORKING_STATES),
}


def is_final(state: str) -> bool:
    """Whether an agent in `state` has ended."""
    return state in FINAL_STATES


def may_move(old: AgentState, new: AgentState) -> bool:
    """Whether the move is allowed. Every working state may end, pause or begin anew; a final one never moves."""
    if is_final(old):
        return False
    if new == "verified":
        return old == "submitting"
    return is_final(new) or new in ("paused", "preparing") or old == new or new in _NEXT[old]
