"""What the screens draw: the run and its fleet in one moment, now or in a replay."""

from __future__ import annotations

from dataclasses import dataclass

from tui.feed import Run
from tui.fleet import Fleet
from tui.replay import Player


@dataclass(frozen=True, slots=True)
class View:
    """A moment. `now` is that moment, in seconds since the epoch."""

    run: Run
    fleet: Fleet
    now: float
    player: Player | None = None
    """Set while the run is played again: then nothing can be done to it."""
    ended: bool = False
    """Whether it was still going on when it was first looked at, and is over now."""
    trouble: str = ""
    """Why what is shown may be old; empty where it is not."""
