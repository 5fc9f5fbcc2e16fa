"""A report as one JSON object: everything that the value holds, for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.report.values import Changes, Proof, Report, TicketReport, Tokens
from tasks.states import FINAL_STATES


def to_document(report: Report) -> dict[str, Any]:
    """What `runs report --json` prints. Shares lie between 0 and 1, times are in seconds."""
    totals, course = report.totals, report.course
    return {
        "run": report.run,
        "project": report.project,
        "state": report.state,
        "base": report.base,
        "started_at": report.began_at,
        "ended_at": report.ended_at,
        "known_at": report.known_at,
        "spurline": report.spurline,
        "tickets": {state: report.states.get(state, 0) for state in FINAL_STATES},
        "cost_usd": round(totals.cost_usd, 6),
        "model_calls": totals.model_calls,
        "iterations": totals.iterations,
        "seconds": round(report.seconds, 3),
        "tokens": _tokens(totals.tokens),
        "cache_share": _share(totals.tokens.cache_share),
        "throughput": _rounded(asdict(report.throughput)),
        "course": _rounded(asdict(course)),
        "changes": _changes(report.changes),
        "agents": [_agent(ticket) for ticket in report.tickets],
    }


def _agent(ticket: TicketReport) -> dict[str, Any]:
    return {
        "ticket": ticket.ticket,
        "title": ticket.title,
        "state": ticket.state,
        "reason": ticket.reason,
        "attempt": ticket.attempt,
        "carries_on": ticket.carries_on,
        "iterations": ticket.iterations,
        "sandbox": ticket.sandbox,
        "branch": ticket.branch,
        "commit": ticket.commit,
        "machine": ticket.machine,
        "verdict": ticket.verdict,
        "submission": ticket.submission,
        "tokens": _tokens(ticket.tokens),
        "cache_share": _share(ticket.tokens.cache_share),
        "model_calls": ticket.model_calls,
        "failed_verdicts": ticket.failed_verdicts,
        "faults": ticket.faults,
        "nudges": ticket.nudges,
        "cost_usd": round(ticket.cost_usd, 6),
        "seconds": round(ticket.seconds, 3),
        "seconds_by_state": {state: round(seconds, 3) for state, seconds in ticket.by_state().items()},
        "waited": {limit: round(seconds, 3) for limit, seconds in ticket.waits.items()},
        "proof": _proof(ticket.proof),
    }


def _proof(proof: Proof | None) -> dict[str, Any] | None:
    if proof is None:
        return None
    return {
        "verdict": proof.verdict,
        "commit": proof.commit,
        "conclusion": proof.conclusion,
        "reason": proof.reason,
        "checks": [
            {
                "name": check.name,
                "own": check.own,
                "baseline": check.baseline,
                "sandbox": check.sandbox,
                "flaky": check.flaky,
                "detail": check.detail,
            }
            for check in proof.checks
        ],
        "forks": [{"service": fork.service, "generation": fork.generation, "hops": fork.hops} for fork in proof.forks],
        "notes": list(proof.notes),
        "evidence": proof.evidence or None,
    }


def _changes(changes: Changes | None) -> dict[str, Any] | None:
    if changes is None:
        return None
    found: dict[str, Any] = _rounded(asdict(changes))
    return found


def _tokens(tokens: Tokens) -> dict[str, int]:
    return {
        "input": tokens.input,
        "output": tokens.output,
        "cache_read": tokens.cache_read,
        "cache_write": tokens.cache_write,
    }


def _share(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _rounded(value: Any) -> Any:
    """`value` with floats to the sixth digit."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value
