"""The budget of a run and of each ticket: money, checked before a call with reservations for the calls in flight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from harness.agents.meter import ModelCall
from harness.engine.gates import Gate


class Budget:
    """Implements harness.agents.meter.Meter. `refuse` is asked before each call, `charge` told after it."""

    def __init__(
        self,
        *,
        run_usd: float,
        ticket_usd: float,
        model_calls: int,
        before_call: Callable[[str], None] = lambda ticket: None,
    ) -> None:
        """`before_call` is told the ticket before each call; what it raises passes through."""
        self._run_usd, self._ticket_usd = run_usd, ticket_usd
        self._slots = Gate("model_calls", model_calls)
        self._before_call = before_call
        self._in_flight = 0
        self._calls = 0
        self._spent: defaultdict[str, float] = defaultdict(float)

    @property
    def limit(self) -> int:
        """Calls in flight, at most."""
        return self._slots.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._slots.limit = limit

    @property
    def spent_usd(self) -> float:
        """What the run cost so far."""
        return sum(self._spent.values())

    def refuse(self, ticket: str) -> str | None:
        """Why no further call may start, None when it may. A call in flight counts as the mean call so far.

        Enter `slot` at once where it may: nothing else must be refused or let go between the two.
        """
        self._before_call(ticket)
        mean = self.spent_usd / self._calls if self._calls else 0.0
        if self._spent[ticket] + mean > self._ticket_usd:
            return f"the ticket's {self._ticket_usd:g} USD are spent"
        if self.spent_usd + mean * (self._in_flight + 1) > self._run_usd:
            return f"the run's {self._run_usd:g} USD are spent"
        return None

    def charge(self, ticket: str, call: ModelCall) -> None:
        """Count one billed answer, also one that could not be used."""
        self._calls += 1
        self._spent[ticket] += call.cost_usd

    def slot(self) -> AbstractAsyncContextManager[None]:
        """A place among the calls in flight. Who waits for one is counted as in flight: it was let go already."""
        return self._slot()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        self._in_flight += 1
        try:
            async with self._slots.place(""):
                yield
        finally:
            self._in_flight -= 1
