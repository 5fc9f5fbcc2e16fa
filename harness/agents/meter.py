"""The meter: who may make the next model call, and what the calls have cost.

The engine holds the budgets and the limit on calls in flight; an agent asks here before every call and reports every
call that was billed, one whose answer broke off too. A slot is held during a call only, never while waiting to try
again; and a failure passes through the slot as a `CallFailed`, so that who limits calls in flight sees each 429.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call that was billed. `input_tokens` are those that were neither read from nor written to the cache."""

    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float
    """0 where the price is not known."""
    seconds: float
    stop_reason: str
    """The API's word; `broken` for an answer that did not come to its end."""
    priced: bool = True
    """Whether `cost_usd` is a price; False for a model that nobody has a price of."""


Trouble = Literal["rate_limited", "overloaded", "unreachable", "garbled"]
"""Why a call failed though the next one may succeed. Only `rate_limited` says that there are too many calls."""


class CallFailed(Exception):
    """One try of a call failed and may be repeated: a signal between agent and limiter, no error of the user's."""

    def __init__(self, trouble: Trouble, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.trouble: Trouble = trouble
        self.message = message
        self.retry_after_s = retry_after_s


class Meter(Protocol):
    """What an agent asks of whoever holds the budgets."""

    def refuse(self, ticket: str) -> str | None:
        """Why no further call may start for `ticket` (its budget, the run's, its minutes), in one line; None: go."""
        ...

    def charge(self, ticket: str, call: ModelCall) -> None:
        """Note a call that was billed."""
        ...

    def slot(self) -> AbstractAsyncContextManager[None]:
        """The right to one call in flight. `CallFailed` passes through it."""
        ...


class OpenMeter:
    """A meter without a budget: it limits calls in flight and adds up what they cost."""

    def __init__(self, calls_in_flight: int = 40) -> None:
        self._slots = asyncio.Semaphore(calls_in_flight)
        self.calls: list[tuple[str, ModelCall]] = []

    def refuse(self, ticket: str) -> str | None:
        return None

    def charge(self, ticket: str, call: ModelCall) -> None:
        self.calls.append((ticket, call))

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        async with self._slots:
            yield

    @property
    def cost_usd(self) -> float:
        return sum(call.cost_usd for _, call in self.calls)
