"""weigh: where a verdict leads. Not a node: instantiate and validate both end with it."""

from __future__ import annotations

from graphs.ports import Ports, Verdict, Work
from graphs.state import REASON_LIMIT, TicketState, ended
from tasks.text import one_line


async def weigh(verdict: Verdict, state: TicketState, work: Work, ports: Ports) -> TicketState:
    """Verified is submitted, what the agent can mend goes back to it, the rest ends as it is."""
    reason = one_line(verdict.reason, REASON_LIMIT)
    ports.journal.emit(
        "verdict",
        work.ticket.id,
        {"verdict": verdict.id, "conclusion": verdict.conclusion, "reason": reason},
    )
    failed = state["failed_verdicts"] + (verdict.conclusion == "failed")
    noted: TicketState = {"verdict": verdict.id, "reason": reason, "failed_verdicts": failed, "lost": 0}
    if verdict.conclusion == "verified":
        return {**noted, "step": "submit"}
    if verdict.feedback is None:
        return {**noted, **ended(verdict.conclusion, reason)}
    message = await ports.messages.keep(work.run, work.ticket.id, verdict.feedback)
    return {**noted, "message": message, "doubt": verdict.conclusion, "step": "feedback"}
