"""The limits of a run: one of everything of which only so much may happen at once, and budgets; all of them changeable
while the run goes on, budgets for single tickets too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Final, Protocol

from graphs.ports import Caps as Rounds
from harness.engine.allowance import rounds, run_caps, ticket_caps
from harness.engine.budget import Caps
from harness.engine.gates import Gate, StandStill, Urgency, Waited

_OF_A_MACHINE: Final = ("sandboxes", "deletions", "forks", "checks")


class CallLimit(Protocol):
    """Whoever limits the model's calls in flight."""

    model_calls: int


class Spending(Protocol):
    """Whoever holds the budgets."""

    def allow(self, *, run: Caps, ticket: Caps, single: Mapping[str, Caps]) -> None: ...


class Limits:
    """The limits of one worker. Agents and the model's calls are limited for a run: several workers part them among
    them. What starts and runs is limited for a machine, so each worker has all of that."""

    def __init__(
        self,
        said: Mapping[str, float],
        *,
        calls: CallLimit,
        budget: Spending,
        urgency: Urgency,
        waited: Waited,
        standing: StandStill = lambda ticket: nullcontext(),
        changed: Callable[[Mapping[str, float]], object] = lambda limits: None,
        own_agents: int | None = None,
        changed_before: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """`said` has each limit of `harness.limits`; `changed` is told all of them whenever one changes, and `standing`
        is the time of a ticket that waits for its turn. `own_agents`: as many as this worker was told to work on,
        whatever its part would be, until the run is told otherwise than in `changed_before`."""
        self._said, self._calls, self._budget, self._changed = dict(said), calls, budget, changed
        self._single: dict[str, Mapping[str, float]] = {}
        self._own_agents, self._workers = own_agents, 1
        self._agents_before = changed_before.get("agents")
        self.gates = {
            name: Gate(name, int(self._said[name]), urgency=urgency, waited=waited, standing=standing)
            for name in _OF_A_MACHINE
        }
        self.ahead = Gate("checks", 1, urgency=urgency, waited=waited, standing=standing)
        """See ThrottledDriver. Who waits there waits for checks to end."""
        self._apply()

    @property
    def agents(self) -> int:
        """How many tickets this worker may work on at once."""
        return self._own_agents or _part(self._said["agents"], self._workers)

    @property
    def agents_in_all(self) -> int | None:
        """How many tickets all workers together may work on at once; None where this one need not ask the others."""
        return None if self._own_agents or self._workers == 1 else int(self._said["agents"])

    def ticket_s(self, ticket: str) -> float:
        """How long the ticket may be worked on."""
        return self._of(ticket)["ticket_minutes"] * 60

    def rounds(self, ticket: str) -> Rounds:
        """How often the ticket may go round."""
        return rounds(self._of(ticket))

    def change(
        self,
        wanted: Mapping[str, float],
        workers: int = 1,
        single: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    ) -> None:
        """Take over limits that were changed (the others stay), how many workers there are, and the budgets that
        `single` tickets have for their own."""
        said = {**self._said, **{name: limit for name, limit in wanted.items() if name in self._said}}
        news, self._said, self._workers = said != self._said, said, max(workers, 1)
        self._single = dict(single)
        if wanted.get("agents") != self._agents_before:
            self._own_agents, self._agents_before = None, wanted.get("agents")
        self._apply()
        if news:
            self._changed(said)

    def _of(self, ticket: str) -> Mapping[str, float]:
        return {**self._said, **self._single.get(ticket, {})}

    def _apply(self) -> None:
        self._calls.model_calls = _part(self._said["model_calls"], self._workers)
        for name, gate in self.gates.items():
            gate.limit = int(self._said[name])
        single = {ticket: ticket_caps(self._of(ticket)) for ticket in self._single}
        self._budget.allow(run=run_caps(self._said), ticket=ticket_caps(self._said), single=single)


def _part(limit: float, workers: int) -> int:
    return max(1, -(-int(limit) // workers))
