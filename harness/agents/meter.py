"""The meter: who may make the next model call, and what the calls have cost.

The engine holds the budgets and the limits; an agent enters a call of it before every try and reports there what the
provider said of its limits, and every answer that was billed, one that broke off too. A slot is held during a try only,
never while waiting for one or to try again; and a failure passes through it as a `CallFailed`, so that who limits calls
in flight sees each 429.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

BROKEN: Final = "broken"
"""Why an answer stopped that did not come to its end."""


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
    """The API's word, or BROKEN."""
    priced: bool = True
    """Whether `cost_usd` is a price; False for a model that nobody has a price of."""

    @property
    def uncached_tokens(self) -> int:
        """Input that the provider had to read anew: what counts toward its limits."""
        return self.input_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a call will use, as well as it can be told before it."""

    uncached_tokens: int
    max_output_tokens: int


Resource = Literal["requests", "input_tokens", "output_tokens"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a provider says that is left of one resource, with an answer or a refusal."""

    resource: Resource
    limit: float
    """For one period; a minute, unless `full_in_s` says that it must be longer."""
    remaining: float
    full_in_s: float
    """Until all of `limit` is there again, if nothing is used."""


Trouble = Literal["rate_limited", "overloaded", "failing", "unreachable", "garbled"]
"""Why a call failed though the next one may succeed. `rate_limited` and `overloaded` say that there are too many."""


class CallFailed(Exception):
    """One try of a call failed and may be repeated: a signal between agent and limiter, no error of the user's."""

    def __init__(self, trouble: Trouble, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.trouble: Trouble = trouble
        self.message = message
        self.retry_after_s = retry_after_s


class OutOfBudget(Exception):
    """No further call may start: a signal, no error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Slot(Protocol):
    """The right to one try, while it is in flight."""

    def told(self, allowances: Sequence[Allowance]) -> None:
        """Note what the provider said, as soon as it did."""
        ...

    def charge(self, call: ModelCall) -> None:
        """Note an answer that was billed."""
        ...


class Meter(Protocol):
    """What an agent asks of whoever holds the budgets and the limits."""

    def call(self, ticket: str, wanted: Wanted) -> AbstractAsyncContextManager[Slot]:
        """Enter before one try of a call, leave when it has ended. `CallFailed` passes through.

        Entering waits, holding nothing, and raises OutOfBudget where no further call may start for `ticket`, or a
        signal of its owner's, which is to be let through."""
        ...

    async def wait(self, ticket: str, seconds: float) -> None:
        """Wait between two tries, holding nothing. A signal of the owner's breaks it off, and is to be let through."""
        ...

    def nearly_spent(self, ticket: str) -> str | None:
        """Which of the ticket's budgets is nearly used up, in a few words for the model; None while none is."""
        ...


class OpenMeter:
    """A meter without a budget: it limits calls in flight and adds up what they cost."""

    def __init__(self, calls_in_flight: int = 40) -> None:
        self._slots = asyncio.Semaphore(calls_in_flight)
        self.calls: list[tuple[str, ModelCall]] = []

    @asynccontextmanager
    async def call(self, ticket: str, wanted: Wanted) -> AsyncIterator[Slot]:
        async with self._slots:
            yield _OpenSlot(ticket, self.calls)

    async def wait(self, ticket: str, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def nearly_spent(self, ticket: str) -> str | None:
        return None

    @property
    def cost_usd(self) -> float:
        return sum(call.cost_usd for _, call in self.calls)


@dataclass(frozen=True, slots=True)
class _OpenSlot:
    ticket: str
    calls: list[tuple[str, ModelCall]]

    def told(self, allowances: Sequence[Allowance]) -> None:
        pass

    def charge(self, call: ModelCall) -> None:
        self.calls.append((self.ticket, call))
