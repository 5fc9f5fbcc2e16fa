"""What of the proofs a reader is shown, and how it is said in short."""

from __future__ import annotations

from collections import Counter
from typing import Final

from harness.report.values import Proof, Report, TicketReport

MOST_NOTES: Final = 100


def notes_of(report: Report) -> tuple[tuple[str, int], ...]:
    """What verdicts note, and of how many tickets; the most frequent first."""
    found = Counter(
        note for ticket in report.tickets if ticket.proof is not None for note in dict.fromkeys(ticket.proof.notes)
    )
    return tuple(found.most_common(MOST_NOTES))


def own_checks(proof: Proof) -> str:
    """The ticket's own checks: `name: fail → pass`."""
    own = [f"{check.name}: {check.baseline} → {check.sandbox}" for check in proof.checks if check.own]
    return "; ".join(own) or "none"


def others(proof: Proof) -> str:
    """How the repository's checks went: `5 pass, 1 fail on the baseline too`."""
    known = [check for check in proof.checks if not check.own]
    passed = sum(check.sandbox == "pass" for check in known)
    both = sum(check.sandbox != "pass" and check.baseline != "pass" for check in known)
    parts = [f"{passed} pass"] + ([f"{both} fail on the baseline too"] if both else [])
    broken = len(known) - passed - both
    return ", ".join(parts + ([f"{broken} do not"] if broken else []))


def forks(proof: Proof) -> str:
    """Each fork and the requests that it is proven to have served: `payments 12`."""
    return ", ".join(f"{fork.service} {fork.hops}" for fork in proof.forks)


def with_evidence(report: Report) -> tuple[TicketReport, ...]:
    """Tickets of which something is to be shown beside their reason: the ones that are not verified."""
    return tuple(
        ticket
        for ticket in report.tickets
        if ticket.state != "verified" and ticket.proof is not None and (ticket.proof.evidence or ticket.proof.checks)
    )


def broken_checks(proof: Proof) -> tuple[tuple[str, ...], ...]:
    """The checks that did not simply pass: name, whose, baseline, sandbox, what it said."""
    return tuple(
        (
            check.name,
            "the ticket's" if check.own else "the repository's",
            check.baseline,
            f"{check.sandbox}, flaky" if check.flaky else check.sandbox,
            check.detail,
        )
        for check in proof.checks
        if check.flaky or check.sandbox != "pass" or check.own
    )


def earlier_commit(ticket: TicketReport) -> str:
    """What must be said where the evidence is not of the commit at which the ticket stands; else empty."""
    proof = ticket.proof
    if proof is None or ticket.verdict == proof.verdict:
        return ""
    return f"This is the last verdict, {proof.conclusion} on commit {proof.commit[:12]}; the work went on after it."
