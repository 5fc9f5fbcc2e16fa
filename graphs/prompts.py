"""What the loop says to the agent. The first message begins with `Ticket ID: TITLE`; recordings are found by it."""

from __future__ import annotations

from tasks.ticket import Ticket


def opening(ticket: Ticket) -> str:
    """The first message: the ticket, and what it may change."""
    services = ", ".join(ticket.services) if ticket.services else "any service"
    checks = "\n".join(f"- {check.name}" for check in ticket.checks.all) or "- none of its own"
    return f"""Ticket {ticket.id}: {ticket.title}

{ticket.body}

Services you may change: {services}
Checks that judge this ticket, beside the repository's own:
{checks}

Work in the current folder, which is a checkout of the repository. End your turn when the change is complete: it is then
committed, started beside the running system, and judged there."""


def going_on(ended: str, evidence: str) -> str:
    """The first message of an attempt that goes on from where the one before ended. `ended` says how, empty where that
    is not known; `evidence` is what the agent has yet to hear."""
    how = f" It had ended: {ended}." if ended else ""
    words = f"""The user wants you to go on with this ticket.{how} Calls, time and money are counted anew.

The working directory is as it was last committed, perhaps in another place; what was not committed is gone, so look
before you rely on it. What you were told about the ticket and about how it is judged holds."""
    return f"{words}\n\n{evidence}" if evidence else words


def static_feedback(output: str) -> str:
    """The static checks failed; nothing was started."""
    return f"""The static checks failed, so nothing was started yet. Mend this and end your turn again.

{output}"""


def nothing_changed() -> str:
    """The agent ended its turn with the tree of the commit before."""
    return """Nothing changed since the last commit, so there is nothing new to judge. Make the change and end your turn
again, or call `ask_human` and say what keeps you from it."""


def seen_before() -> str:
    """The agent went back to what it handed in before."""
    return """What you handed in now is, file by file, what you handed in before, and what was said of it still holds.
Try something else and end your turn again, or call `ask_human` and say what keeps you from it."""
