"""The limits of one model and account, shared by everybody who calls it: who may call next, and when.

A call waits, holding nothing but its reservation in the budget, until all of this allows it: the calls in flight, the
pace that rejections taught, the provider's own limits as its headers tell them, and every `retry-after`. Whoever is
first by priority and age goes first; nobody passes a call that has to wait for tokens, so none starves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Final

from harness.agents.meter import Allowance, CallFailed, ModelCall, Slot, Wanted
from harness.engine.budget import Budget
from harness.engine.gates import WORTH_TELLING_S, StandStill
from harness.engine.pace import Pace, Window
from harness.engine.quota import Quota, Share

AGING_S: Final = 30.0
"""So long a wait outweighs a priority that is better by 1."""
_ROOM_S: Final = 0.1
"""How often it is looked whether there is room in the budget."""


@dataclass(slots=True)
class _Waiting:
    ticket: str
    wanted: Wanted
    since: float
    granted: asyncio.Future[_InFlight]


@dataclass(slots=True)
class _Between:
    """Somebody who waits between two tries."""

    ticket: str
    refused: Exception | None = None
    called: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _InFlight:
    """A call on its way. Fulfils `harness.agents.meter.Slot`."""

    ticket: str
    began: float
    share: Share
    """Of the provider's limits."""
    budget: Budget
    hear: Callable[[_InFlight, Sequence[Allowance]], None]
    billed: list[ModelCall] = field(default_factory=list)
    heard: bool = False
    """Whether the provider said what it left."""

    def told(self, allowances: Sequence[Allowance]) -> None:
        self.heard = self.heard or bool(allowances)
        self.hear(self, allowances)

    def charge(self, call: ModelCall) -> None:
        self.billed.append(call)
        self.budget.charge(self.ticket, call)


class ModelLimits:
    """Implements harness.agents.meter.Meter. Lives in one event loop, whose clock it uses."""

    def __init__(
        self,
        budget: Budget,
        *,
        model_calls: int,
        priority: Callable[[str], float] = lambda ticket: 0.0,
        before_call: Callable[[str], None] = lambda ticket: None,
        waited: Callable[[str, float], None] = lambda ticket, seconds: None,
        standing: StandStill = lambda ticket: nullcontext(),
        excused: Callable[[str, float], None] = lambda ticket, seconds: None,
    ) -> None:
        """`priority`: smaller is sooner, 1 is worth AGING_S of waiting. `before_call` is asked before each try, while
        nothing is held, and after a wait for its turn; what it raises reaches the caller as it is. `waited` hears how
        long a try waited, which is `standing` time of its ticket, as is what lies between two tries; `excused` how long
        one took that failed, as the one before had."""
        self._budget, self._priority, self._before_call, self._waited = budget, priority, before_call, waited
        self._standing, self._excused = standing, excused
        self._window, self._pace, self._quota = Window(model_calls), Pace(), Quota()
        self._not_before = 0.0
        self._waiting: list[_Waiting] = []
        self._between: list[_Between] = []
        self._unserved: dict[str, float] = {}
        """Since when a ticket waits for an answer, over all tries."""
        self._failing: set[str] = set()
        """Tickets whose last try failed."""
        self._in_flight = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def model_calls(self) -> int:
        """How many calls may be in flight at most. May be set at any time; calls on their way are left alone."""
        return self._window.most

    @model_calls.setter
    def model_calls(self, most: int) -> None:
        self._window.most = most
        self._serve()

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def nearly_spent(self, ticket: str) -> str | None:
        return self._budget.nearly_spent(ticket)

    def recheck(self) -> None:
        """Ask `before_call` for everybody who waits: those whom it refuses leave now, and not when it is their turn."""
        for waiting in tuple(self._waiting):
            if (refused := self._refused(waiting.ticket)) is not None:
                self._waiting.remove(waiting)
                if not waiting.granted.done():
                    waiting.granted.set_exception(refused)
        for between in self._between:
            if (refused := self._refused(between.ticket)) is not None:
                between.refused = refused
                between.called.set()

    @asynccontextmanager
    async def call(self, ticket: str, wanted: Wanted) -> AsyncIterator[Slot]:
        """See Meter. The reservation is made before the wait: whoever waits was let go already."""
        self._ask(ticket)
        await self._room(ticket)
        with self._budget.reserved(ticket):
            call = await self._turn(ticket, wanted)
            failed = None
            try:
                yield call
            except CallFailed as error:
                failed = error
                raise
            finally:
                self._ended(call, failed)

    async def _room(self, ticket: str) -> None:
        """Wait while only what is reserved leaves no room in the run's budget."""
        if self._budget.short(ticket):
            with self._budget.waiting(ticket):
                while self._budget.short(ticket):
                    await self.wait(ticket, _ROOM_S)

    async def wait(self, ticket: str, seconds: float) -> None:
        """See Meter."""
        self._ask(ticket)
        between = _Between(ticket)
        self._between.append(between)
        try:
            with self._standing(ticket), suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await between.called.wait()
        finally:
            self._between.remove(between)
        if between.refused is not None:
            raise between.refused

    def _refused(self, ticket: str) -> Exception | None:
        """The signal of whoever refuses this ticket, to be passed on as it is."""
        try:
            self._ask(ticket)
        except Exception as refused:  # the caller's own signal
            return refused
        return None

    def _ask(self, ticket: str) -> None:
        try:
            self._before_call(ticket)
        except BaseException:
            self._budget.rest(ticket)
            raise

    async def _turn(self, ticket: str, wanted: Wanted) -> _InFlight:
        now = self._now()
        since = self._unserved.setdefault(ticket, now)
        waiting = _Waiting(ticket, wanted, since, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._serve()
        try:
            call = await self._granted(waiting)
        except BaseException:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                self._serve()
            elif waiting.granted.done() and not waiting.granted.cancelled() and waiting.granted.exception() is None:
                # The turn came in the moment in which nobody wanted it any more.
                self._ended(waiting.granted.result(), None)
            raise
        if (took_s := call.began - now) >= WORTH_TELLING_S:
            self._waited(ticket, took_s)
        return call

    async def _granted(self, waiting: _Waiting) -> _InFlight:
        if not waiting.granted.done():
            with self._standing(waiting.ticket):
                await waiting.granted
            # Meanwhile this process may have stood still, and others have what it had.
            self._ask(waiting.ticket)
            self._budget.goes_on(waiting.ticket)
        return waiting.granted.result()

    def _serve(self) -> None:
        """Start whoever may start; have a timer set where only time is wanting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and self._in_flight < self._window.size:
            first = min(self._waiting, key=lambda each: self._priority(each.ticket) + each.since / AGING_S)
            now = self._now()
            if (wait_s := self._not_before - now) > 0 or (wait_s := self._wait_s(first, now)) > 0:
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._serve)
                return
            self._waiting.remove(first)
            if not first.granted.done():
                first.granted.set_result(self._start(first, now))

    def _wait_s(self, first: _Waiting, now: float) -> float:
        return max(self._pace.wait_s(now), self._quota.wait_s(now, first.ticket, first.wanted))

    def _start(self, first: _Waiting, now: float) -> _InFlight:
        self._in_flight += 1
        self._pace.began(now)
        share = self._quota.take(now, first.ticket, first.wanted)
        return _InFlight(first.ticket, began=now, share=share, budget=self._budget, hear=self._told)

    def _told(self, call: _InFlight, allowances: Sequence[Allowance]) -> None:
        self._quota.told(self._now(), call.share, allowances)
        self._serve()

    def _ended(self, call: _InFlight, failed: CallFailed | None) -> None:
        now = self._now()
        self._quota.settle(now, call.ticket, call.share, call.billed, heard=call.heard)
        if failed is None:
            self._unserved.pop(call.ticket, None)
            if call.billed:
                self._failing.discard(call.ticket)
                self._pace.answered()
                self._window.answered(now, call.began, self._in_flight)
        elif failed.trouble in ("rate_limited", "overloaded"):
            self._rejected(call, failed, now)
        else:
            self._window.failed(now)
        if failed is not None:
            self._excuse(call, now - call.began)
            self._not_before = max(self._not_before, now + (failed.retry_after_s or 0.0))
        self._in_flight -= 1
        self._serve()

    def _excuse(self, call: _InFlight, seconds: float) -> None:
        """What a model takes to give no answer again is no work on the ticket."""
        if call.ticket in self._failing:
            self._budget.excuse(call.ticket, seconds)
            self._excused(call.ticket, seconds)
        self._failing.add(call.ticket)

    def _rejected(self, call: _InFlight, failed: CallFailed, now: float) -> None:
        if failed.trouble == "overloaded":
            self._window.rejected(now, call.began)
            return
        limit_per_s = self._quota.requests_per_s
        # A call that went out before the limits were known teaches nothing that they do not say better.
        if call.share.limits_known or limit_per_s is None:
            self._pace.rejected(now, call.began, limit_per_s)
        rates = [rate for rate in (self._pace.per_s(now), limit_per_s) if rate is not None]
        self._window.rejected(now, call.began, min(rates, default=0.0))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
