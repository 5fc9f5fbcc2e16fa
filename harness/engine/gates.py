"""Gates: one for each thing of which only so much may happen at once. Each limit can be changed while it holds.

Who waits is let in by urgency, and by how long he has waited: a ticket near its end comes first, and none starves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final

Urgency = Callable[[str], float]
"""How urgent a ticket is: the greater, the sooner; one unit is worth `AGED_S` of waiting."""
Waited = Callable[[str, str, float], None]
"""Told the ticket, the gate and the seconds that it waited, where that was worth telling."""
StandStill = Callable[[str], AbstractContextManager[None]]
"""Lets the time of a ticket stand still."""

AGED_S: Final = 20.0
WORTH_TELLING_S: Final = 0.05
"""Of shorter waits nothing is said."""


@dataclass(slots=True, eq=False)
class _Waiter:
    ticket: str
    since: float
    let_in: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Gate:
    """At most `limit` at once. A limit that shrinks sends nobody away: it holds as places are given back."""

    def __init__(
        self,
        name: str,
        limit: int,
        *,
        urgency: Urgency = lambda _: 0.0,
        waited: Waited = lambda ticket, gate, seconds: None,
        standing: StandStill = lambda ticket: nullcontext(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._limit = _sound(limit)
        self._urgency, self._waited, self._standing, self._clock = urgency, waited, standing, clock
        self._inside = 0
        self._waiting: list[_Waiter] = []

    @property
    def inside(self) -> int:
        """How many have a place."""
        return self._inside

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    @property
    def queue(self) -> tuple[str, ...]:
        """The tickets that wait for one."""
        return tuple(waiter.ticket for waiter in self._waiting)

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = _sound(limit)
        self._let_in()

    @asynccontextmanager
    async def place(self, ticket: str) -> AsyncIterator[None]:
        """A place for the block; waits for one."""
        await self._enter(ticket)
        try:
            yield
        finally:
            self._inside -= 1
            self._let_in()

    async def _enter(self, ticket: str) -> None:
        waiter = _Waiter(ticket, self._clock())
        self._waiting.append(waiter)
        self._let_in()
        try:
            if not waiter.let_in.done():
                with self._standing(ticket):
                    await waiter.let_in
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.let_in.cancelled():
                # Let in and cancelled in the same moment: the place is the next one's.
                self._inside -= 1
                self._let_in()
            raise
        took_s = self._clock() - waiter.since
        if took_s >= WORTH_TELLING_S:
            self._waited(ticket, self.name, took_s)

    def _let_in(self) -> None:
        while self._waiting and self._inside < self._limit:
            now = self._clock()
            first = max(self._waiting, key=lambda one: self._urgency(one.ticket) + (now - one.since) / AGED_S)
            self._waiting.remove(first)
            if not first.let_in.done():
                self._inside += 1
                first.let_in.set_result(None)


def _sound(limit: int) -> int:
    if limit < 1:
        raise ValueError("a limit is at least 1")
    return limit
