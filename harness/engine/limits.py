"""The limits of a run: one of everything of which only so much may happen at once, changeable while the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from harness.engine.gates import Gate, Urgency, Waited

NAMES: Final = ("agents", "model_calls", "sandboxes", "deletions", "forks", "checks")
"""The limits that can be changed while a run goes on, as `spurline.yaml` names them."""
_OF_A_MACHINE: Final = ("sandboxes", "deletions", "forks", "checks")


class CallLimit(Protocol):
    """Whoever limits the model's calls in flight."""

    model_calls: int


class Limits:
    """The limits of one worker. Agents and the model's calls are limited for a run: several workers part them among
    them. What starts and runs is limited for a machine, so each worker has all of that."""

    def __init__(
        self,
        said: Mapping[str, int],
        *,
        calls: CallLimit,
        ticket_s: float,
        urgency: Urgency,
        waited: Waited,
        changed: Callable[[Mapping[str, int]], None] = lambda limits: None,
        own_agents: int | None = None,
        changed_before: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """`said` has each of NAMES; `changed` is told all limits whenever one changes. `own_agents`: as many as this
        worker was told to work on, whatever its part would be, until the run is told otherwise than in
        `changed_before`."""
        self.ticket_s = ticket_s
        self._said, self._calls, self._changed = {name: said[name] for name in NAMES}, calls, changed
        self._own_agents, self._workers = own_agents, 1
        self._agents_before = changed_before.get("agents")
        self.gates = {name: Gate(name, self._said[name], urgency=urgency, waited=waited) for name in _OF_A_MACHINE}
        self._apply()

    @property
    def agents(self) -> int:
        """How many tickets this worker may work on at once."""
        return self._own_agents or _part(self._said["agents"], self._workers)

    def change(self, wanted: Mapping[str, int], workers: int = 1) -> None:
        """Take over limits that were changed (the others stay), and how many workers there are."""
        said = {**self._said, **{name: limit for name, limit in wanted.items() if name in NAMES}}
        news, self._said, self._workers = said != self._said, said, max(workers, 1)
        if wanted.get("agents") != self._agents_before:
            self._own_agents, self._agents_before = None, wanted.get("agents")
        self._apply()
        if news:
            self._changed(said)

    def _apply(self) -> None:
        self._calls.model_calls = _part(self._said["model_calls"], self._workers)
        for name, gate in self.gates.items():
            gate.limit = self._said[name]


def _part(limit: int, workers: int) -> int:
    return max(1, -(-limit // workers))
