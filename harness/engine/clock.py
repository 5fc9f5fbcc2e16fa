"""The clock of one ticket: what it has been worked on, and when that is over. It stands still while the ticket waits
for the environment, or for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self


class TicketClock:
    """An async context manager that raises TimeoutError in its block when `left_s` are over."""

    def __init__(self, left_s: float, worked_s: float = 0.0) -> None:
        """`worked_s`: what was worked on the ticket before."""
        self._left_s, self._before_s = max(left_s, 0.0), worked_s
        self._timeout = asyncio.timeout(None)
        self._began: float | None = None
        self._stood_s, self._still = 0.0, False
        self._standing_since: float | None = None

    @property
    def expired(self) -> bool:
        """Whether the time is over."""
        return self._timeout.expired()

    @property
    def worked_s(self) -> float:
        """Seconds that were worked on the ticket, those of earlier holders included."""
        if self._began is None:
            return self._before_s
        until = self._standing_since if self._standing_since is not None else self._now()
        return self._before_s + until - self._began - self._stood_s

    def stand_still(self) -> None:
        """From now on the time does not end any more. TimeoutError where it is over already."""
        if self._timeout.expired():
            # The ticket is being cancelled, and this step has yet to hear of it.
            raise TimeoutError
        self._still = True
        self._timeout.reschedule(None)

    def allow(self, all_s: float) -> None:
        """Give the ticket so much time in all; it may be over with that."""
        self._left_s = max(all_s - self._before_s, 0.0)
        if self._began is not None and self._standing_since is None:
            self._reschedule(self._ends())

    @contextmanager
    def standing(self) -> Iterator[None]:
        """The time in the block does not count."""
        if self._standing_since is not None:
            yield
            return
        self._standing_since = self._now()
        self._reschedule(None)
        try:
            yield
        finally:
            self._stood_s += self._now() - self._standing_since
            self._standing_since = None
            self._reschedule(self._ends())

    def excuse(self, seconds: float) -> None:
        """Count so much less of what has passed."""
        self._stood_s += seconds
        if self._standing_since is None:
            self._reschedule(self._ends())

    async def __aenter__(self) -> Self:
        self._began = self._now()
        await self._timeout.__aenter__()
        self._timeout.reschedule(self._began + self._left_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._timeout.__aexit__(kind, error, trace)

    def _ends(self) -> float:
        return self._now() + self._left_s - (self.worked_s - self._before_s)

    def _reschedule(self, when: float | None) -> None:
        # A time that is over has cancelled its task already, which has yet to hear of it.
        if not self._timeout.expired() and not self._still:
            self._timeout.reschedule(when)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
