"""How a report says numbers, moments and states."""

from __future__ import annotations

import time
from typing import Final

from harness.report.values import Report
from tasks.states import is_final
from tasks.text import span

STATE_SIGNS: Final = {
    "verified": "✓",
    "failed": "✗",
    "unproven": "?",
    "needs_human": "!",
    "error": "E",
    "cancelled": "–",
    "paused": "=",
    "queued": "·",
    "preparing": "P",
    "generating": "G",
    "checking": "C",
    "instantiating": "I",
    "validating": "V",
    "submitting": "S",
}
"""A sign beside each state's colour: colour alone tells not everybody something."""


def percent(share: float | None) -> str:
    """A share as whole percents; `–` where there is none."""
    if share is None:
        return "–"
    return "<1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def money(usd: float) -> str:
    """US dollars, with as many digits as say something."""
    return f"{usd:.2f} USD" if usd >= 0.1 or usd == 0 else f"{usd:.4f} USD"


def amount(count: float) -> str:
    """A count in at most four digits: `950`, `12.4k`, `3.1M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            scaled = f"{count / size:.1f}".removesuffix(".0")
            return f"{scaled}{unit}"
    return f"{count:.0f}"


def plural(count: int, thing: str) -> str:
    """`1 ticket`, `2 tickets`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def moment(at: float) -> str:
    """A moment in UTC: a report travels."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def counts(report: Report) -> str:
    """`13 verified, 3 needs_human`."""
    return ", ".join(f"{count} {state}" for state, count in report.states.items())


def unfinished(report: Report) -> str:
    """What must be said first of a run that has not come to its end; empty for one that has."""
    left = sum(1 for ticket in report.tickets if not is_final(ticket.state))
    if report.state == "finished":
        return ""
    if report.state == "interrupted":
        return f"This run was interrupted after {span(report.seconds)}; {plural(left, 'ticket')} had not ended."
    return (
        f"This run has not ended: it still works, or was killed. {plural(left, 'ticket')} had not ended at its last "
        f"event, {moment(report.known_at)}."
    )
