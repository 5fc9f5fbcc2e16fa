"""The agents of a run, as whoever changes them must see them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlmodel import Session, select

from harness.store.tables import AgentRow
from tasks.errors import UsageError

WAITS: Final = "waits for a free agent"
"""Why a ticket is queued that nothing holds."""


def agents_of(session: Session, run: str, tickets: Sequence[str] = ()) -> dict[str, AgentRow]:
    """All agents of the run by ticket, locked, as they are now. UsageError where one of `tickets` is not the run's."""
    query = select(AgentRow).where(AgentRow.run == run).order_by(AgentRow.ticket).with_for_update()
    agents = {agent.ticket: agent for agent in session.exec(query.execution_options(populate_existing=True))}
    ensure_known(run, tickets, agents)
    return agents


def ensure_known(run: str, tickets: Sequence[str], agents: Collection[str]) -> None:
    """UsageError where one of `tickets` is not the run's."""
    for ticket in tickets:
        if ticket not in agents:
            raise unknown(run, ticket)


def unknown(run: str, ticket: str) -> UsageError:
    """What is said of a ticket that the run does not have."""
    return UsageError(f"run {run} has no ticket {ticket!r}", hint=f"`spurline runs show {run}` lists them")
