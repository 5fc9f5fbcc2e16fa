"""The alarm: one reason that holds the whole fleet is told, and told to be over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

Told = Callable[[Literal["fleet.held", "fleet.free"], Mapping[str, Any]], object]

AFTER_S: Final = 30.0
"""A reason is told when it has held everything for so long."""
AGAIN_S: Final = 330.0
_BY: Final = "tickets"


class Alarm:
    """Hears, again and again, what holds everything."""

    def __init__(self, told: Told, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._told, self._clock = told, clock
        self._reason: str | None = None
        self._since = 0.0
        self._told_at: float | None = None

    def heard(self, reason: str | None, tickets: int) -> None:
        """What holds all the `tickets` that have not ended; None while something is done, or there are several
        reasons."""
        now = self._clock()
        if reason != self._reason:
            if self._told_at is not None:
                self._told("fleet.free", {"by": _BY, "seconds": round(now - self._since, 3)})
            self._reason, self._since, self._told_at = reason, now, None
        due = self._since + AFTER_S if self._told_at is None else self._told_at + AGAIN_S
        if reason is not None and now >= due:
            self._told_at = now
            self._told("fleet.held", {"by": _BY, "reason": reason, "tickets": tickets})
