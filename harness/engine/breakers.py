"""Breakers: while the baseline is sick or the model is gone, tickets that need it wait, and none of them pays for it.

A breaker opens with a fault and its reason. A baseline is probed until it is sound again; the model is found out by
letting one ticket try at a time. However many tickets run into the same fault: it is told once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

Probe = Callable[[], Awaitable[str | None]]
"""What is wrong now, in one line; None when all is well. Never raises."""
Told = Callable[[str, str | None, float], None]
"""Told the breaker's name, the reason (None when it closed) and for how many seconds it was open."""

FIRST_TRY_S: Final = 2.0
LONGEST_TRY_S: Final = 60.0


class Breaker:
    """One thing that tickets need. Closed as long as all is well."""

    def __init__(
        self,
        name: str,
        told: Told,
        *,
        probe: Probe | None = None,
        first_try_s: float = FIRST_TRY_S,
        longest_try_s: float = LONGEST_TRY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `probe` one of those who wait is let through at a time, until `mend` is called."""
        self.name = name
        self._told, self._probe, self._clock = told, probe, clock
        self._first_try_s, self._longest_try_s = first_try_s, longest_try_s
        self._reason: str | None = None
        self._since = self._met = 0.0
        self._next_try_s = first_try_s
        self._try_at = 0.0
        self._trying = False
        """Whether somebody was let through to try."""
        self._mended = asyncio.Event()
        self._probing: asyncio.Task[None] | None = None

    @property
    def reason(self) -> str | None:
        """Why it is open; None when it is closed."""
        return self._reason

    @property
    def open_s(self) -> float:
        """For how long it has been open."""
        return self._clock() - self._since if self._reason is not None else 0.0

    @property
    def fault_s(self) -> float:
        """For how long the fault has been met: without a probe, nothing is known since the last who met it."""
        return self.open_s if self._probe is not None or self._reason is None else self._met - self._since

    def trip(self, reason: str) -> None:
        """A fault was met."""
        if self._reason is None:
            self._reason, self._since = reason, self._clock()
            self._next_try_s = self._first_try_s
            self._mended.clear()
            self._told(self.name, reason, 0.0)
            if self._probe is not None:
                self._probing = asyncio.create_task(self._watch(self._probe), name=f"probing: {self.name}")
        elif self._trying:
            # However many meet the same fault, the pause grows with those who were let through to try.
            self._next_try_s = min(2 * self._next_try_s, self._longest_try_s)
        self._met, self._trying = self._clock(), False
        self._try_at = self._met + self._next_try_s

    def mend(self) -> None:
        """All is well."""
        if self._reason is not None:
            open_s, self._reason = self.open_s, None
            self._mended.set()
            self._told(self.name, None, open_s)

    async def wait(self) -> None:
        """Until it is closed, or the caller is the one to try."""
        while self._reason is not None:
            left_s = self._try_at - self._clock()
            if self._probe is None and left_s <= 0:
                # Whoever comes next waits for what becomes of this one.
                self._try_at, self._trying = self._clock() + self._longest_try_s, True
                return
            try:
                async with asyncio.timeout(left_s if self._probe is None else None):
                    await self._mended.wait()
            except TimeoutError:
                continue

    async def aclose(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    async def _watch(self, probe: Probe) -> None:
        while self._reason is not None:
            await asyncio.sleep(self._next_try_s)
            wrong = await probe()
            if wrong is None:
                self.mend()
            self._next_try_s = min(1.5 * self._next_try_s, self._longest_try_s / 6)
