"""The budgets of a run and of its tickets: calls, tokens, money and minutes, checked before every call.

What is in flight counts: a call reserves what its ticket's last one used, or the mean call where that is not known. A
call for which there would be room but for what is reserved waits: calls may use less. So it does where several workers
share the run's budget, and this one has to ask for more of it. Money alone would bound nothing for a model without a
price, so each measure has a cap of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from harness.agents.meter import ModelCall, OutOfBudget
from harness.store.tables import AgentRow

NEARLY: Final = 0.8
"""The share of a ticket's budget, the coming call included, from which its agent is told to wrap up."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used."""

    calls: int = 0
    tokens: int = 0
    """Output, and input that was not read from the cache."""
    cost_usd: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.cost_usd + other.cost_usd,
            self.seconds + other.seconds,
        )

    def __sub__(self, other: Spent) -> Spent:
        return self + Spent(-other.calls, -other.tokens, -other.cost_usd, -other.seconds)


NOTHING: Final = Spent()


def spent_in(row: AgentRow) -> Spent:
    """What the store knows that a ticket's agent has used."""
    return Spent(row.model_calls, row.counted_tokens, row.cost_usd, row.worked_s)


@dataclass(frozen=True, slots=True)
class Caps:
    """How much may be used."""

    usd: float = math.inf
    calls: float = math.inf
    tokens: float = math.inf
    minutes: float = math.inf

    def passed(self, spent: Spent) -> str | None:
        """The first cap that `spent` passes, with its unit."""
        return next((f"{_figure(cap)} {unit}" for used, cap, unit in self._uses(spent) if used > cap), None)

    def nearly(self, spent: Spent) -> str | None:
        """The first cap that `spent` comes near to, as `USED of CAP UNIT`."""
        near = ((used, cap, unit) for used, cap, unit in self._uses(spent) if used >= NEARLY * cap)
        return next((f"{_figure(min(used, cap))} of {_figure(cap)} {unit}" for used, cap, unit in near), None)

    def _uses(self, spent: Spent) -> tuple[tuple[float, float, str], ...]:
        return (
            (spent.cost_usd, self.usd, "USD"),
            (spent.calls, self.calls, "model calls"),
            (spent.tokens, self.tokens, "tokens"),
            (spent.seconds / 60, self.minutes, "minutes"),
        )


class Budget:
    """Who may still make a call. Money and tokens can pass a cap by what calls in flight use over their reservation."""

    def __init__(
        self,
        *,
        run: Caps,
        ticket: Caps,
        spent: Mapping[str, Spent] = MappingProxyType({}),
        seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`spent` is what the run's tickets used before this process, `seconds` how long the run had gone on."""
        self._run, self._ticket, self._clock = run, ticket, clock
        self._single: Mapping[str, Caps] = {}
        self._spent = dict(spent)
        self._own = sum(self._spent.values(), NOTHING)
        self._others = NOTHING
        self._began = clock() - seconds
        self._since: dict[str, float] = {}
        """Since when each ticket's minutes count."""
        self._last: dict[str, Spent] = {}
        self._reserved: dict[str, Spent] = {}
        self._all_reserved = NOTHING
        self._allowed: Caps | None = None
        """What this process may come to have used by itself, before it asks for more; None where it is alone."""
        self._short: dict[str, Spent] = {}
        """What calls that wait for room would use, by ticket."""

    @property
    def spent(self) -> Mapping[str, Spent]:
        """What each ticket has used so far."""
        return {ticket: self._used(ticket) for ticket in (*self._spent, *self._since)}

    @property
    def own(self) -> Spent:
        """What was spent before this process, and by it."""
        return self._own

    @property
    def spent_usd(self) -> float:
        """What the run cost so far, in all its processes."""
        return self._own.cost_usd + self._others.cost_usd

    def allow(self, *, run: Caps, ticket: Caps, single: Mapping[str, Caps]) -> None:
        """Change what may be used; `single` tickets have caps of their own. What is in flight goes on, and counts."""
        self._run, self._ticket, self._single = run, ticket, single

    @property
    def run(self) -> Caps:
        """How much all tickets together may use."""
        return self._run

    @property
    def reserved_by_all(self) -> Spent:
        """What calls in flight are likely to use."""
        return self._all_reserved

    @property
    def waited_for(self) -> tuple[Spent, ...]:
        """What each call that waits for room is likely to use, the first one first."""
        return tuple(self._short.values())

    @property
    def usual(self) -> Spent:
        """What a call of a new ticket is likely to use: the mean call."""
        all_of_them = self._own + self._others
        calls = max(1, all_of_them.calls)
        return Spent(1, all_of_them.tokens // calls, all_of_them.cost_usd / calls)

    @property
    def is_shared(self) -> bool:
        """Whether other processes use the run's budget too, and this one may use a part."""
        return self._allowed is not None

    def stand(self) -> None:
        """Let no call begin beside those in flight, until `shared` says how much may be used."""
        self._allowed = Caps(calls=self._own.calls + self._all_reserved.calls)

    @property
    def asks(self) -> bool:
        """Whether a call waits for more of the run's budget than this process may use."""
        return self._allowed is not None and any(map(self.short, self._short))

    def shared(self, others: Spent, allowed: Caps | None) -> None:
        """Set what other processes of the same run have used, over all their tickets, and what `own` may come to (None:
        whatever is left). Their seconds are the run's own and do not count."""
        self._others, self._allowed = replace(others, seconds=0.0), allowed

    def taken_up(self, ticket: str, spent: Spent) -> None:
        """Begin with what its attempt has used: somebody else may have worked on it meanwhile, or it is a new one. The
        run's own figures stay."""
        self._spent[ticket] = spent
        self._since.pop(ticket, None)

    def refuse(self, ticket: str) -> str | None:
        """Why no further call may start for `ticket`, in one line; None when it may."""
        coming = self._expected(ticket)
        own = self._used(ticket) + self._reserved.get(ticket, NOTHING) + coming
        if (cap := self._caps(ticket).passed(own)) is not None:
            return f"the ticket's {cap} are spent"
        if (cap := self._passed(self._all_reserved + coming)) is not None:
            return f"the run's {cap} are spent"
        return None

    def short(self, ticket: str) -> bool:
        """Whether a call of `ticket` has to wait for room: what is reserved, here or by others, may come to less."""
        coming = self._expected(ticket)
        if self._passed(coming) is not None:
            return False
        if self._passed(self._all_reserved + coming) is not None:
            return True
        return self._allowed is not None and self._allowed.passed(self._own + self._all_reserved + coming) is not None

    @contextmanager
    def waiting(self, ticket: str) -> Iterator[None]:
        """The ticket waits for room in the block, and its call is one of those that are needed."""
        self._short[ticket] = self._expected(ticket)
        try:
            yield
        finally:
            del self._short[ticket]

    def _passed(self, coming: Spent) -> str | None:
        """The first of the run's caps that would be passed."""
        run = self._own + self._others + coming
        return self._run.passed(replace(run, seconds=self._clock() - self._began))

    def nearly_spent(self, ticket: str) -> str | None:
        """Which of the ticket's budgets its coming call brings near to its end; None while none does."""
        return self._caps(ticket).nearly(self._used(ticket) + self._expected(ticket))

    @contextmanager
    def reserved(self, ticket: str) -> Iterator[None]:
        """Reserve one call, for as long as it waits and is in flight. Raises OutOfBudget."""
        self.goes_on(ticket)
        if (reason := self.refuse(ticket)) is not None:
            raise OutOfBudget(reason)
        coming = self._expected(ticket)
        self._reserve(ticket, coming)
        try:
            yield
        finally:
            self._reserve(ticket, NOTHING - coming)

    def charge(self, ticket: str, call: ModelCall) -> None:
        """Count one billed answer, also one that could not be used."""
        used = Spent(1, call.uncached_tokens + call.output_tokens, call.cost_usd)
        self._last[ticket] = used
        self._spent[ticket] = self._spent.get(ticket, NOTHING) + used
        self._own += used

    def rest(self, ticket: str) -> None:
        """Let the ticket's minutes stand still until it goes on, with its next call at the latest."""
        self._spent[ticket] = self._used(ticket)
        self._since.pop(ticket, None)

    def excuse(self, ticket: str, seconds: float) -> None:
        """Count so much less of the ticket's minutes."""
        self._spent[ticket] = self._spent.get(ticket, NOTHING) - Spent(seconds=seconds)

    def goes_on(self, ticket: str) -> None:
        """Let the ticket's minutes count."""
        self._since.setdefault(ticket, self._clock())

    def _caps(self, ticket: str) -> Caps:
        return self._single.get(ticket, self._ticket)

    def _used(self, ticket: str) -> Spent:
        now = self._clock()
        return self._spent.get(ticket, NOTHING) + Spent(seconds=now - self._since.get(ticket, now))

    def _expected(self, ticket: str) -> Spent:
        """What a call of the ticket is likely to use."""
        if (last := self._last.get(ticket)) is not None:
            return last
        return self.usual

    def _reserve(self, ticket: str, change: Spent) -> None:
        left = self._reserved.get(ticket, NOTHING) + change
        self._all_reserved += change
        if left.calls:
            self._reserved[ticket] = left
            return
        self._reserved.pop(ticket, None)
        if not self._reserved:
            # What floating point left over must not add up.
            self._all_reserved = NOTHING


def _figure(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.4g}"
