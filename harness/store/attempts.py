"""Attempts at a ticket: what is kept of one that is followed by another, and how that one begins."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlmodel import Session

from harness.store.agents import WAITS, agents_of
from harness.store.notes import put
from harness.store.tables import AgentRow, AttemptRow, EventRow, RunRow
from tasks.errors import UsageError
from tasks.states import FINAL_STATES, is_final

RETRIED: Final = frozenset(FINAL_STATES) - {"verified"}
ANEW: Final = "retried"
"""Why a ticket is queued whose attempt begins anew."""
_STEERED: Final = "`spurline runs note {} -t {} TEXT` says something to an agent at work"
_INSTEAD: Final[Mapping[str, str]] = {
    "verified": "there is nothing left to do on it",
    **dict.fromkeys(
        ("failed", "unproven", "error", "cancelled"),
        "`spurline runs retry {} -t {} --carry-on --note TEXT` goes on with it",
    ),
}
"""What can be done to a ticket in this state, in the place of what cannot."""


def to_retry(session: Session, run: str, tickets: Sequence[str], rule: str, states: Collection[str]) -> list[AgentRow]:
    """The agents named, or all, that are in one of `states`; a cancel of the run holds for the others only."""
    row = session.get_one(RunRow, run, with_for_update=True)
    agents = agents_of(session, run, tickets)
    for ticket in tickets:
        if (state := agents[ticket].state) not in states:
            raise UsageError(f"{ticket!r} is {state}: {rule}", hint=_INSTEAD.get(state, _STEERED).format(run, ticket))
    if row.wish == "cancelled":
        # The wish goes on for what has yet to end by it.
        for agent in agents.values():
            agent.wish = "" if is_final(agent.state) else row.wish
        row.wish = ""
    row.revision += 1
    session.add(row)
    return [agents[ticket] for ticket in dict.fromkeys(tickets)] or [
        agent for agent in agents.values() if agent.state in states
    ]


def queue_again(session: Session, agents: Sequence[AgentRow], *, carry_on: bool, note: str | None) -> None:
    for agent in agents:
        session.add(_attempt(agent))
        session.add(_following(agent, carry_on=carry_on))
        session.add(_queued(agent))
        if note is not None:
            put(session, agent, note)


def _attempt(agent: AgentRow) -> AttemptRow:
    return AttemptRow(
        run=agent.run,
        ticket=agent.ticket,
        attempt=agent.attempt,
        state=agent.state,
        reason=agent.reason,
        model_calls=agent.model_calls,
        tokens=agent.counted_tokens,
        cost_usd=agent.cost_usd,
        document=json.dumps(agent_json(agent)),
    )


def _following(agent: AgentRow, *, carry_on: bool) -> AgentRow:
    """The row of the next attempt."""
    # One that ended before it began has nothing to go on from but what it would have gone on from itself.
    carries_on = (agent.attempt if agent.branch else agent.carries_on) if carry_on else 0
    fresh = AgentRow(run=agent.run, ticket=agent.ticket, place=agent.place, title=agent.title, state="queued")
    for name in AgentRow.model_fields:
        if name not in ("run", "ticket", "place", "title", "attempt", "generation", "limits"):
            setattr(agent, name, getattr(fresh, name))
    agent.attempt, agent.carries_on = agent.attempt + 1, carries_on
    agent.reason = WAITS
    return agent


def _queued(agent: AgentRow) -> EventRow:
    reason = "carries on" if agent.carries_on else ANEW
    data = {"state": "queued", "reason": reason, "attempt": agent.attempt}
    return EventRow(run=agent.run, ticket=agent.ticket, kind="agent.state", at=time.time(), data=json.dumps(data))


def agent_json(row: AgentRow) -> dict[str, Any]:
    """One entry of `agents` in `runs show --json`."""
    ended = row.ended_at or time.time()
    return {
        "ticket": row.ticket,
        "title": row.title,
        "state": row.state,
        "reason": row.reason,
        "attempt": row.attempt,
        "carries_on": row.carries_on,
        "iterations": row.iterations,
        "sandbox": row.sandbox,
        "branch": row.branch,
        "commit": row.commit,
        "machine": row.machine,
        "verdict": row.verdict,
        "submission": row.submission,
        "tokens": {
            "input": row.input_tokens,
            "output": row.output_tokens,
            "cache_read": row.cache_read_tokens,
            "cache_write": row.cache_write_tokens,
        },
        "model_calls": row.model_calls,
        "failed_verdicts": row.failed_verdicts,
        "faults": row.faults,
        "nudges": row.nudges,
        "cost_usd": round(row.cost_usd, 6),
        "seconds": round(ended - row.started_at, 3) if row.started_at is not None else 0.0,
    }
