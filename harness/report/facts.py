"""A report out of what the store holds. Pure: the same rows make the same report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from harness.report.changes import changes_since
from harness.report.spans import course_of, spans_of
from harness.report.throughput import throughput_of, waits_of
from harness.report.totals import tokens_of, totals_of
from harness.report.values import Proof, Report, Span, TicketReport
from harness.store.tables import AgentRow, RunRow
from tasks.events import Event, EventKind
from tasks.states import FINAL_STATES, WORKING_STATES

KINDS: tuple[EventKind, ...] = (
    "run.started",
    "run.resumed",
    "run.limits",
    "run.interrupted",
    "agent.state",
    "agent.waited",
    "fleet.held",
    "model.call",
    "verdict",
)
"""The events that a report is built from."""


def build(
    run: RunRow,
    agents: Sequence[AgentRow],
    events: Sequence[Event],
    proofs: Mapping[str, Proof],
    *,
    last_event_at: float | None = None,
    earlier: tuple[RunRow, Sequence[AgentRow]] | None = None,
) -> Report:
    """The report of `run`. `events` are those of `KINDS`, oldest first; `proofs` those of `last_verdicts`, by ticket.

    `last_event_at` is when anything at all was heard of the run last.
    """
    heard = [event.at for event in events] + [run.started_at, last_event_at or 0.0]
    known_at = max(run.ended_at or max(heard), run.started_at)
    seconds = known_at - run.started_at
    spans = spans_of(events, [agent.ticket for agent in agents], run.started_at, known_at)
    waits = waits_of(events)
    tickets = tuple(
        _ticket(
            agent,
            spans[agent.ticket],
            waits.get(agent.ticket, {}),
            proofs.get(agent.ticket),
            known_at,
        )
        for agent in agents
    )
    states = Counter(agent.state for agent in agents)
    return Report(
        run=run.id,
        project=run.project,
        state=run.state,
        base=run.base,
        spurline=run.spurline,
        began_at=run.started_at,
        ended_at=run.ended_at,
        known_at=known_at,
        states={state: states[state] for state in (*FINAL_STATES, *WORKING_STATES) if states[state]},
        totals=totals_of(agents),
        tickets=tickets,
        throughput=throughput_of(
            events, spans, agents_limit=_agents_limit(run), began_at=run.started_at, seconds=seconds
        ),
        course=course_of(spans, events, run.started_at, seconds),
        changes=changes_since(*earlier, agents) if earlier is not None else None,
    )


def last_verdicts(agents: Sequence[AgentRow], events: Sequence[Event]) -> dict[str, str]:
    """The verdict that says most of each ticket: the one that it ended with, else the last one."""
    found = {event.ticket: str(event.data.get("verdict")) for event in events if event.kind == "verdict"}
    named = {agent.ticket: agent.verdict or found.get(agent.ticket) for agent in agents}
    return {ticket: verdict for ticket, verdict in named.items() if verdict}


def _ticket(
    agent: AgentRow,
    spans: tuple[Span, ...],
    waits: Mapping[str, float],
    proof: Proof | None,
    known_at: float,
) -> TicketReport:
    began = agent.started_at
    return TicketReport(
        ticket=agent.ticket,
        title=agent.title,
        state=agent.state,
        reason=agent.reason,
        attempt=agent.attempt,
        carries_on=agent.carries_on,
        iterations=agent.iterations,
        sandbox=agent.sandbox,
        branch=agent.branch,
        commit=agent.commit,
        machine=agent.machine,
        verdict=agent.verdict,
        submission=agent.submission,
        tokens=tokens_of(agent),
        model_calls=agent.model_calls,
        failed_verdicts=agent.failed_verdicts,
        faults=agent.faults,
        nudges=agent.nudges,
        cost_usd=agent.cost_usd,
        seconds=max(0.0, (agent.ended_at or known_at) - began) if began is not None else 0.0,
        spans=spans,
        waits=waits,
        proof=proof,
    )


def _agents_limit(run: RunRow) -> int | None:
    """The limit that the run's settings name; None where they name none."""
    limits = json.loads(run.settings).get("limits")
    agents = limits.get("agents") if isinstance(limits, Mapping) else None
    return agents if isinstance(agents, int) else None
