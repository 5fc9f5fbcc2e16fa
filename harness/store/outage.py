"""How long a database has been gone, and how long it is still waited for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 60.0
"""More than a restart or a failover takes; less than what a person takes for an end."""

_FIRST_S: Final = 0.05
_LONGEST_S: Final = 2.0


class Outage:
    """One for all who read a database, or who write to it: once it was waited for in vain, nobody waits again until it
    is back."""

    def __init__(self, patience_s: float = PATIENCE_S, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s, self._clock = patience_s, clock
        self._since: float | None = None

    def pause_s(self) -> float | None:
        """How long to wait before the next attempt, after one that failed; None where it has been long enough."""
        now = self._clock()
        since = self._since = now if self._since is None else self._since
        if now - since >= self._patience_s:
            return None
        # A tenth of the time that it has taken so far, and not all workers in the same moment.
        return min(_LONGEST_S, _FIRST_S + (now - since) / 10) * random.uniform(0.5, 1.0)

    def over(self) -> None:
        """It answers."""
        self._since = None
