"""The shared limits of a model, against a provider with token buckets, in a time that jumps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agents.anthropic.headers import allowances_in, retry_after_s
from harness.agents.meter import Allowance, CallFailed, ModelCall, OutOfBudget, Trouble, Wanted
from harness.agents.rehearsal.limits import RateLimit, RateLimiter
from harness.engine.budget import Budget, Caps
from harness.engine.clock import TicketClock
from harness.engine.model_limits import AGING_S, ModelLimits
from tests.virtual_time import run_virtually

SOME = Wanted(100, 1_000)


def now() -> float:
    return asyncio.get_running_loop().time()


def limits(model_calls: int = 40, *, run: Caps | None = None, **options: Any) -> ModelLimits:
    return ModelLimits(Budget(run=run or Caps(), ticket=Caps(), clock=now), model_calls=model_calls, **options)


def billed(output_tokens: int = 100, *, cost_usd: float = 0.0) -> ModelCall:
    return ModelCall("m", 1_000, output_tokens, 0, 0, cost_usd, 1.0, "end_turn")


@dataclass
class Provider:
    """Answers after `latency_s`, rejects at once; callers try again with full jitter, as the client does."""

    limit: RateLimit
    latency_s: float = 1.0
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    in_flight: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self.limiter = RateLimiter(self.limit, clock=now)

    async def call(self, meter: ModelLimits, ticket: str) -> None:
        """One call with all its tries."""
        bound_s = 1.0
        while True:
            try:
                await self._try(meter, ticket)
            except CallFailed as failed:
                await asyncio.sleep(self.dice.uniform(0, bound_s) + (failed.retry_after_s or 0))
                bound_s = min(60.0, 2 * bound_s)
            else:
                return

    async def _try(self, meter: ModelLimits, ticket: str) -> None:
        async with meter.call(ticket, Wanted(1_000, 16_000)) as slot:
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            try:
                await asyncio.sleep(self.dice.uniform(0.001, 0.01))
                if (wait_s := self.limiter.admit(1_000)) is not None:
                    headers = self.limiter.headers(wait_s)
                    slot.told(allowances_in(headers))
                    raise CallFailed("rate_limited", "too many", retry_after_s(headers))
                await asyncio.sleep(self.latency_s)
                self.limiter.gave(100)
                slot.told(allowances_in(self.limiter.headers()))
                slot.charge(billed())
            finally:
                self.in_flight -= 1

    async def fleet(self, agents: int, calls: int, meter: ModelLimits) -> float:
        """Seconds until each of the agents has made its calls."""

        async def one(ticket: str) -> None:
            for _ in range(calls):
                await self.call(meter, ticket)

        began = now()
        await asyncio.gather(*(one(f"t{number}") for number in range(agents)))
        return now() - began

    @property
    def rejected_share(self) -> float:
        return self.limiter.rejected / (self.limiter.rejected + self.limiter.answered)


@pytest.mark.parametrize("headers", [True, False])
@pytest.mark.parametrize(("burst", "latency_s", "calls"), [(6, 1.0, 5), (6, 1.0, 20), (60, 1.0, 5), (6, 4.0, 10)])
def test_a_provider_of_six_requests_a_second_is_used_fully_and_rejects_little(
    headers: bool, burst: int, latency_s: float, calls: int
) -> None:
    async def fleet() -> tuple[float, Provider]:
        provider = Provider(RateLimit(requests_per_s=6, burst=burst, headers=headers), latency_s)
        return await provider.fleet(100, calls, limits()), provider

    makespan_s, provider = run_virtually(fleet())
    assert provider.limiter.answered == 100 * calls
    assert provider.rejected_share <= 0.05
    assert makespan_s <= 1.10 * (latency_s + (100 * calls - burst) / 6)


def test_a_provider_that_lets_in_nothing_but_evenly_spaced_requests_rejects_little_too() -> None:
    async def fleet() -> tuple[float, Provider]:
        provider = Provider(RateLimit(requests_per_s=6, burst=1))
        return await provider.fleet(100, 5, limits()), provider

    makespan_s, provider = run_virtually(fleet())
    assert provider.rejected_share <= 0.05
    assert makespan_s <= 1.25 * (1 + 499 / 6), "every rejection holds everybody for a whole second"


@pytest.mark.parametrize(
    ("limit", "ideal_s"),
    [
        (RateLimit(input_tokens_per_min=400_000), (1_000_000 - 400_000) / 400_000 * 60),
        (RateLimit(output_tokens_per_min=30_000), (100_000 - 30_000) / 30_000 * 60),
    ],
)
def test_tokens_are_reserved_before_a_call(limit: RateLimit, ideal_s: float) -> None:
    async def fleet() -> tuple[float, Provider]:
        provider = Provider(limit)
        return await provider.fleet(100, 10, limits()), provider

    makespan_s, provider = run_virtually(fleet())
    assert provider.rejected_share <= 0.05
    assert makespan_s <= 1.10 * (1 + ideal_s)


@pytest.mark.parametrize(
    ("said", "after_s"),
    [
        (Allowance("requests", 60, 0, 60), 1.0),
        (Allowance("input_tokens", 60_000, 0, 60), 1.0),
        (Allowance("output_tokens", 6_000, 0, 60), 2.0),
        (Allowance("output_tokens", 6_000, 6_000, 60), 0.0),
    ],
)
def test_a_call_waits_for_what_the_provider_said_is_used_up(said: Allowance, after_s: float) -> None:
    async def story() -> float:
        meter = limits()
        async with meter.call("a", Wanted(1_000, 16_000)) as slot:
            slot.told([said])
            slot.charge(billed(100))
        # Of output, the 100 of that call are to be refilled as well: the provider had not counted them yet.
        async with meter.call("a", Wanted(1_000, 16_000)):
            return now()

    assert run_virtually(story()) == pytest.approx(after_s, abs=0.01)


def test_a_provider_without_limits_is_not_held_back() -> None:
    async def fleet() -> tuple[float, int]:
        provider = Provider(RateLimit())
        return await provider.fleet(100, 20, limits(100)), provider.most

    makespan_s, most = run_virtually(fleet())
    assert most == 100
    assert makespan_s < 21


def test_the_calls_in_flight_are_bounded_and_the_bound_can_be_changed() -> None:
    async def fleet() -> list[int]:
        provider, meter, seen = Provider(RateLimit()), limits(3), []
        going = asyncio.create_task(provider.fleet(20, 20, meter))
        for bound in (8, 2):
            await asyncio.sleep(10)
            seen.append(provider.in_flight)
            meter.model_calls = bound
            assert meter.model_calls == bound
        await asyncio.sleep(10)
        seen += [provider.in_flight, meter.in_flight]
        await going
        return [*seen, meter.in_flight]

    assert run_virtually(fleet()) == [3, 8, 2, 2, 0]


@pytest.mark.parametrize("trouble", ["rate_limited", "overloaded"])
def test_nobody_starts_before_a_retry_after_is_over(trouble: Trouble) -> None:
    async def story() -> list[float]:
        meter, starts = limits(), []

        async def refused() -> None:
            async with meter.call("a", SOME):
                raise CallFailed(trouble, "later", 30.0)

        async def one(ticket: str) -> None:
            async with meter.call(ticket, SOME) as slot:
                starts.append(now())
                slot.charge(billed())

        await one("first")
        with pytest.raises(CallFailed):
            await refused()
        with pytest.raises(CallFailed):
            await asyncio.wait_for(refused(), 60)
        await asyncio.gather(*(one(f"t{number}") for number in range(5)))
        return starts

    first, *others = run_virtually(story())
    assert first < 1
    assert min(others) >= 60


@pytest.mark.parametrize(
    ("trouble", "window"), [("rate_limited", 8), ("overloaded", 8), ("failing", 10), ("unreachable", 10)]
)
def test_only_what_says_that_there_are_too_many_shrinks_the_calls_in_flight(trouble: Trouble, window: int) -> None:
    async def story() -> int:
        meter = limits(10)
        for _ in range(60):
            async with meter.call("well", SOME) as slot:
                await asyncio.sleep(1)
                slot.charge(billed())

        async def fails(ticket: str) -> None:
            with suppress(CallFailed):
                async with meter.call(ticket, SOME):
                    await asyncio.sleep(1)
                    raise CallFailed(trouble, "no")

        await asyncio.gather(*(fails(f"t{number}") for number in range(10)))
        return meter._window.size

    assert run_virtually(story()) == window


async def order_of(tickets: list[tuple[str, float]], **options: Any) -> list[str]:
    """In which order tickets are served that ask, each at its time, while the only slot is held for 1,000 s."""
    meter, served = limits(1, **options), []

    async def one(ticket: str, at: float) -> None:
        await asyncio.sleep(at)
        async with meter.call(ticket, SOME) as slot:
            served.append(ticket)
            slot.charge(billed())

    async with meter.call("holder", SOME) as slot:
        asking = [asyncio.create_task(one(ticket, at)) for ticket, at in tickets]
        await asyncio.sleep(1_000)
        slot.charge(billed())
    await asyncio.gather(*asking)
    return served


def test_who_waits_is_served_in_the_order_of_arrival_unless_told_otherwise() -> None:
    tickets = [("b", 1.0), ("a", 2.0), ("c", 3.0)]
    assert run_virtually(order_of(tickets)) == ["b", "a", "c"]
    first = {"holder": 0.0, "a": 3.0, "b": 2.0, "c": 1.0}
    assert run_virtually(order_of(tickets, priority=first.__getitem__)) == ["c", "b", "a"]


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 900)), min_size=1, max_size=12))
def test_age_outweighs_priority_so_that_none_starves(asked: list[tuple[float, float]]) -> None:
    rank = {f"t{number}": priority for number, (priority, _) in enumerate(asked)}
    at = {f"t{number}": when for number, (_, when) in enumerate(asked)}
    served = run_virtually(order_of(list(at.items()), priority=lambda ticket: rank.get(ticket, 0.0)))
    assert sorted(served) == sorted(rank)
    for place, ticket in enumerate(served):
        for later in served[place + 1 :]:
            assert at[ticket] - at[later] <= AGING_S * (rank[later] - rank[ticket]) + 1e-6


def test_a_call_that_was_rejected_keeps_its_age() -> None:
    async def story() -> list[str]:
        meter, served = limits(1), []

        async def one(ticket: str) -> None:
            async with meter.call(ticket, SOME) as slot:
                served.append(ticket)
                slot.charge(billed())

        with pytest.raises(CallFailed):
            async with meter.call("old", SOME):
                raise CallFailed("unreachable", "no")
        async with meter.call("holder", SOME) as slot:
            young = [asyncio.create_task(one(f"young{number}")) for number in range(3)]
            await asyncio.sleep(1)
            old = asyncio.create_task(one("old"))
            await asyncio.sleep(1)
            slot.charge(billed())
        await asyncio.gather(old, *young)
        return served

    assert run_virtually(story()) == ["old", "young0", "young1", "young2"]


class Paused(Exception):
    """A signal of the owner's."""


def test_what_before_call_raises_passes_and_nothing_is_held() -> None:
    async def story() -> None:
        def pause(ticket: str) -> None:
            if ticket == "a" and signal is not None:
                raise signal

        signal: Paused | None = None
        meter = limits(1, before_call=pause)
        async with meter.call("a", SOME):
            await asyncio.sleep(5)
        signal = Paused("not now")
        with pytest.raises(Paused) as raised:
            async with meter.call("a", SOME):
                raise AssertionError("the call was let go")
        assert raised.value is signal
        await asyncio.sleep(1_000)
        assert meter._budget.spent["a"].seconds == 5, "its minutes stand still"
        assert (meter.in_flight, meter._waiting, meter._budget._reserved) == (0, [], {})
        async with meter.call("b", SOME):
            assert meter.in_flight == 1

    run_virtually(story())


def test_a_wait_between_two_tries_is_broken_off_for_whom_the_owner_refuses() -> None:
    async def story() -> None:
        paused = set[str]()

        def pause(ticket: str) -> None:
            if ticket in paused:
                raise Paused(ticket)

        meter = limits(1, before_call=pause)
        now = asyncio.get_running_loop().time
        began = now()
        waiting = [asyncio.create_task(meter.wait(ticket, 120)) for ticket in "ab"]
        await asyncio.sleep(7)
        paused.add("a")
        meter.recheck()
        with pytest.raises(Paused):
            await waiting[0]
        assert now() - began == 7
        await waiting[1]
        assert now() - began == 120
        with pytest.raises(Paused):
            await meter.wait("a", 120)
        assert now() - began == 120
        assert meter._between == []

    run_virtually(story())


def test_who_waits_is_asked_again_when_the_owner_says_so() -> None:
    async def story() -> None:
        paused = set[str]()

        def pause(ticket: str) -> None:
            if ticket in paused:
                raise Paused(ticket)

        meter, served = limits(1, before_call=pause), []

        async def one(ticket: str) -> None:
            async with meter.call(ticket, SOME):
                served.append(ticket)

        async with meter.call("holder", SOME):
            waiting = [asyncio.create_task(one(ticket)) for ticket in "abc"]
            await asyncio.sleep(1)
            paused |= {"a", "c", "holder"}
            meter.recheck()
            await asyncio.sleep(1)
            assert [task.done() for task in waiting] == [True, False, True]
            assert meter.in_flight == 1
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in ended] == [Paused, type(None), Paused]
        assert served == ["b"]

    run_virtually(story())


def test_whose_turn_comes_is_asked_once_more() -> None:
    """A process that stands still hears nothing meanwhile, and goes on where it stood."""

    async def story() -> None:
        stopped = set[str]()

        def before_call(ticket: str) -> None:
            if ticket in stopped:
                raise Refused

        meter = limits(1, before_call=before_call)
        async with meter.call("a", SOME):
            second = asyncio.create_task(_held(meter, "b"))
            await asyncio.sleep(1)
            stopped.add("b")
        with pytest.raises(Refused):
            await second
        assert (meter.in_flight, meter._waiting, meter._budget._reserved) == (0, [], {})

    run_virtually(story())


def test_no_slot_and_no_reservation_is_lost_however_a_call_ends() -> None:
    async def story() -> None:
        meter, dice = limits(3), random.Random(3)

        async def one(ticket: str) -> None:
            async with meter.call(ticket, SOME) as slot:
                await asyncio.sleep(dice.uniform(0, 2))
                match dice.randrange(4):
                    case 0:
                        raise CallFailed("unreachable", "no")
                    case 1:
                        raise RuntimeError
                    case _:
                        slot.charge(billed())

        tasks = [asyncio.create_task(one(f"t{number}")) for number in range(300)]
        for task in tasks:
            if dice.random() < 0.5:
                asyncio.get_running_loop().call_later(dice.uniform(0, 60), task.cancel)
        await asyncio.wait(tasks)
        assert (meter.in_flight, meter._waiting, meter._budget._reserved) == (0, [], {})
        assert meter._quota._output_reserved == pytest.approx(0)

    run_virtually(story())


@pytest.mark.parametrize("turns", range(6))
def test_a_turn_that_comes_as_nobody_wants_it_any_more_is_given_on(turns: int) -> None:
    async def story() -> None:
        meter = limits(1)

        async def one() -> None:
            async with meter.call("a", SOME):
                pass

        async with meter.call("holder", SOME):
            waiting = asyncio.create_task(one())
            await asyncio.sleep(1)
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        async with asyncio.timeout(1), meter.call("b", SOME):
            assert meter.in_flight == 1

    run_virtually(story())


def test_who_waits_is_counted_in_the_budget() -> None:
    async def story() -> int:
        meter = limits(2, run=Caps(usd=10))
        gate = asyncio.Event()
        async with meter.call("a", SOME) as slot:
            slot.charge(billed(cost_usd=1.0))

        async def one(ticket: str) -> None:
            async with meter.call(ticket, SOME) as slot:
                await gate.wait()
                slot.charge(billed(cost_usd=1.0))

        tasks = [asyncio.create_task(one(f"t{number}")) for number in range(20)]
        await asyncio.sleep(1)
        gate.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert meter._budget.spent_usd == pytest.approx(10)
        return sum(isinstance(each, OutOfBudget) for each in ended)

    assert run_virtually(story()) == 11


def test_how_long_a_try_waited_is_told_where_it_did() -> None:
    async def story(note: Callable[[str, float], None]) -> None:
        meter = limits(1, waited=note)

        async def one() -> None:
            async with meter.call("late", SOME):
                pass

        async with meter.call("early", SOME):
            task = asyncio.create_task(one())
            await asyncio.sleep(5)
        await task

    heard: list[tuple[str, float]] = []
    coroutine: Coroutine[Any, Any, None] = story(lambda ticket, seconds: heard.append((ticket, seconds)))
    run_virtually(coroutine)
    ((ticket, seconds),) = heard
    assert ticket == "late"
    assert seconds == pytest.approx(5.0)


def test_a_model_that_stalls_again_and_again_uses_up_no_ticket_s_minutes() -> None:
    async def story() -> tuple[float, float]:
        budget = Budget(run=Caps(), ticket=Caps(), clock=now)
        clock = TicketClock(left_s=300)
        meter = ModelLimits(budget, model_calls=1, excused=lambda ticket, seconds: clock.excuse(seconds))
        async with clock:
            for _ in range(20):
                with suppress(CallFailed):
                    async with meter.call("one", SOME):
                        await asyncio.sleep(120)
                        raise CallFailed("unreachable", "the API went silent")
            async with meter.call("one", SOME) as slot:
                await asyncio.sleep(3)
                slot.charge(billed())
        return clock.worked_s, budget.spent["one"].seconds

    # The first one could have been an answer that takes its time.
    assert list(run_virtually(story())) == pytest.approx([123.0, 123.0])


def test_neither_the_wait_for_a_turn_nor_that_between_tries_uses_up_a_tickets_minutes() -> None:
    async def story() -> tuple[float, float]:
        budget = Budget(run=Caps(), ticket=Caps(), clock=now)
        clock = TicketClock(left_s=10)

        @contextmanager
        def standing(ticket: str) -> Iterator[None]:
            budget.rest(ticket)
            with clock.standing():
                yield

        meter = ModelLimits(budget, model_calls=1, standing=standing)

        async def late() -> None:
            async with clock:
                with suppress(CallFailed):
                    async with meter.call("late", SOME):
                        await asyncio.sleep(2)
                        raise CallFailed("overloaded", "overloaded", 100.0)
                await meter.wait("late", 50.0)
                async with meter.call("late", SOME):
                    await asyncio.sleep(3)

        async with meter.call("early", SOME):
            task = asyncio.create_task(late())
            await asyncio.sleep(1_000)
        await task
        return clock.worked_s, budget.spent["late"].seconds

    assert list(run_virtually(story())) == pytest.approx([5.0, 5.0])


@pytest.mark.parametrize(("used", "refused"), [(100, False), (1_100, True)])
def test_what_is_only_reserved_is_waited_for_and_what_is_spent_refuses(used: int, refused: bool) -> None:
    async def story() -> bool:
        meter, ended = limits(run=Caps(tokens=2_500)), list[str]()

        async def call(ticket: str, tokens: int) -> None:
            async with meter.call(ticket, SOME) as slot:
                await asyncio.sleep(1)
                slot.charge(ModelCall("m", tokens - 50, 50, 0, 0, 0.0, 1.0, "end_turn"))
            ended.append(ticket)

        await call("a", 1_100)
        first = asyncio.create_task(call("b", used))
        await asyncio.sleep(0.5)
        second = asyncio.create_task(call("c", 100))
        await asyncio.sleep(0.2)
        assert meter.in_flight == 1, "it may yet come to less"
        await first
        try:
            await second
        except OutOfBudget:
            assert ended == ["a", "b"]
            return True
        assert ended == ["a", "b", "c"]
        return False

    assert run_virtually(story()) == refused


def test_who_waits_for_room_can_be_stopped() -> None:
    async def story() -> None:
        stopped = set[str]()

        def before_call(ticket: str) -> None:
            if ticket in stopped:
                raise Refused

        meter = limits(run=Caps(calls=1), before_call=before_call)
        async with meter.call("a", SOME):
            second = asyncio.create_task(_held(meter, "b"))
            await asyncio.sleep(0.2)
            stopped.add("b")
            meter.recheck()
            with pytest.raises(Refused):
                await second

    run_virtually(story())


class Refused(Exception):
    """The caller's own signal."""


async def _held(meter: ModelLimits, ticket: str) -> None:
    async with meter.call(ticket, SOME):
        pass
