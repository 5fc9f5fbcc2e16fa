"""What changed since the last run of the same backlog."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from harness.report.totals import totals_of
from harness.report.values import Changes, Moved
from harness.store.tables import AgentRow, RunRow
from tasks.states import is_final

SAME: Final = 0.5
"""Runs with at least this share of the tickets of both in common are runs of one backlog."""


def same_backlog(one: Collection[str], other: Collection[str]) -> bool:
    """Whether two runs with these tickets are of one backlog."""
    both, either = set(one) & set(other), set(one) | set(other)
    return bool(either) and len(both) / len(either) >= SAME


def changes_since(run: RunRow, before: Sequence[AgentRow], after: Sequence[AgentRow]) -> Changes:
    """What is different from `run`, whose agents are `before`."""
    old = {agent.ticket: agent.state for agent in before}
    new = {agent.ticket: agent.state for agent in after}
    return Changes(
        run=run.id,
        base=run.base,
        state=run.state,
        seconds=max(0.0, (run.ended_at or _last(before, run.started_at)) - run.started_at),
        totals=totals_of(before),
        moved=tuple(
            Moved(name, old[name], state)
            for name, state in new.items()
            if is_final(state) and old.get(name, state) != state
        ),
        new=tuple(name for name in new if name not in old),
        gone=tuple(name for name in old if name not in new),
    )


def _last(agents: Sequence[AgentRow], began_at: float) -> float:
    """When a run whose end nobody noted ended at the earliest."""
    return max((agent.ended_at or agent.started_at or began_at for agent in agents), default=began_at)
