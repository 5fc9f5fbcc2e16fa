"""Events: the append-only story of a run. What `--json` streams and the journal keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

EventKind = Literal[
    "run.started",
    "run.finished",
    "run.interrupted",
    "run.resumed",
    "run.limits",
    "fleet.held",
    "fleet.free",
    "agent.state",
    "agent.activity",
    "agent.nudged",
    "agent.waited",
    "agent.fault",
    "agent.begun_anew",
    "note.left",
    "note.told",
    "model.call",
    "commit.made",
    "static.finished",
    "sandbox.gone",
    "check.finished",
    "verdict",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `data` holds ids, words and small numbers: never bodies, never keys."""

    kind: EventKind
    run: str
    ticket: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0
    """Seconds since the epoch; the journal sets it where it is 0."""

    def to_json(self) -> dict[str, Any]:
        """The line that `--json` prints."""
        head: dict[str, Any] = {"event": self.kind, "at": round(self.at, 3), "run": self.run}
        if self.ticket is not None:
            head["ticket"] = self.ticket
        return {**head, **self.data}
