"""What is said to a run, and what comes of it: plain values that its beginning, its going on and its end share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.runtime.connections import Narrator
from tasks.events import Event

if TYPE_CHECKING:
    from harness.store.tables import AgentRow

Listener = Callable[[Event], None]

INTERRUPTED: Final = 130
"""The exit code of a run that broke off."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the user said of one run, beside the settings."""

    tickets: tuple[str, ...] = ()
    """Ids; none: the whole backlog."""
    agents: int | None = None
    copies: int | None = None
    """Multiply the backlog to so many tickets."""
    rev: str = "HEAD"
    record: Path | None = None
    """Folder for recordings of what the agents did."""

    def to_json(self) -> str:
        """As the store keeps them."""
        return json.dumps({"tickets": self.tickets, "agents": self.agents, "copies": self.copies})

    @classmethod
    def from_json(cls, text: str) -> RunOptions:
        """What a run that goes on must know of how it was begun."""
        said = json.loads(text)
        return cls(tickets=tuple(said.get("tickets", ())), agents=said.get("agents"), copies=said.get("copies"))


@dataclass(frozen=True, slots=True)
class Console:
    """Whoever watches over a run from outside."""

    listen: Listener
    """Told every event of this process."""
    narrate: Narrator
    drain: asyncio.Event
    """Set, to have everything stop at its next step."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    run: str
    tickets: Mapping[str, int]
    """How many ended in each final state."""
    agents: tuple[AgentRow, ...]
    cost_usd: float
    seconds: float
    exit_code: int

    def to_json(self) -> dict[str, Any]:
        """The last line of `run --json`."""
        return {
            "event": "run.finished" if self.exit_code != INTERRUPTED else "run.interrupted",
            "run": self.run,
            "tickets": dict(self.tickets),
            "cost_usd": round(self.cost_usd, 6),
            "seconds": round(self.seconds, 3),
        }
