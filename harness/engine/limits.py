"""The limits of a run: one of everything of which only so much may happen at once, changeable while the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from harness.engine.gates import Gate, Urgency, Waited

NAMES: Final = ("agents", "model_calls", "sandboxes", "deletions", "forks", "checks")
"""The limits that can be changed while a run goes on, as `spurline.yaml` names them."""


class CallLimit(Protocol):
    """Whoever limits the model's calls in flight."""

    limit: int


class Limits:
    """The gates of one worker. Where several share a run each takes its part of what the run may."""

    def __init__(
        self,
        said: Mapping[str, int],
        *,
        calls: CallLimit,
        ticket_s: float,
        urgency: Urgency,
        waited: Waited,
        changed: Callable[[Mapping[str, int]], None] = lambda limits: None,
    ) -> None:
        """`said` has each of NAMES; `changed` is told all limits whenever one changes."""
        self.ticket_s = ticket_s
        self._said, self._calls, self._changed = {name: said[name] for name in NAMES}, calls, changed
        self.agents = self._said["agents"]
        self.gates = {
            name: Gate(name, self._said[name], urgency=urgency, waited=waited)
            for name in ("sandboxes", "deletions", "forks", "checks")
        }
        self._calls.limit = self._said["model_calls"]

    def change(self, wanted: Mapping[str, int]) -> None:
        """Take over limits that were changed; the others stay."""
        said = {**self._said, **{name: limit for name, limit in wanted.items() if name in NAMES}}
        if said == self._said:
            return
        self._said = said
        self.agents, self._calls.limit = said["agents"], said["model_calls"]
        for name, gate in self.gates.items():
            gate.limit = said[name]
        self._changed(said)
