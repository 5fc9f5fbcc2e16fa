"""Budgets and throttles: what may start, and what it cost."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.ports import Verdict, Work
from harness.agents.meter import CallFailed, ModelCall
from harness.engine.budget import Budget
from harness.engine.gates import Gate
from harness.engine.throttle import ThrottledDriver, ThrottledValidator, TrackedWorkspaces
from tasks.errors import CheckoutError
from tests.unit.memory_ports import World, ticket


def call(cost_usd: float, stop_reason: str = "end_turn") -> ModelCall:
    return ModelCall("m", 10, 5, 0, 0, cost_usd, 0.1, stop_reason)


def test_the_first_calls_may_start_and_the_budgets_end_them() -> None:
    budget = Budget(run_usd=10, ticket_usd=2, model_calls=4)
    assert budget.refuse("a") is None
    budget.charge("a", call(1.5))
    assert budget.refuse("a") == "the ticket's 2 USD are spent"
    assert budget.refuse("b") is None
    for name in "bcdef":
        budget.charge(name, call(1.5))
    assert budget.spent_usd == pytest.approx(9)
    assert budget.refuse("z") == "the run's 10 USD are spent"
    assert budget.refuse("a") == "the ticket's 2 USD are spent"


def test_what_broke_off_is_charged_too() -> None:
    budget = Budget(run_usd=10, ticket_usd=1, model_calls=1)
    budget.charge("a", call(0.6, "broken"))
    assert budget.spent_usd == pytest.approx(0.6)
    assert budget.refuse("a") is not None


def test_calls_without_a_price_never_spend_a_budget() -> None:
    budget = Budget(run_usd=1, ticket_usd=1, model_calls=1)
    for _ in range(1000):
        budget.charge("a", call(0.0))
    assert budget.refuse("a") is None


async def test_calls_in_flight_are_reserved_those_that_wait_for_a_slot_too() -> None:
    budget, gate = Budget(run_usd=10, ticket_usd=10, model_calls=2), asyncio.Event()
    budget.charge("a", call(1))

    async def one(name: str) -> None:
        async with budget.slot():
            await gate.wait()
            budget.charge(name, call(1))

    tasks = []
    while budget.refuse("x") is None:
        tasks.append(asyncio.create_task(one("x")))
        await asyncio.sleep(0)
    assert len(tasks) == 9
    gate.set()
    await asyncio.gather(*tasks)
    assert budget.spent_usd == pytest.approx(10)


async def test_a_slot_is_given_back_however_a_call_ends() -> None:
    budget = Budget(run_usd=1, ticket_usd=1, model_calls=1)
    with pytest.raises(CallFailed):
        async with budget.slot():
            raise CallFailed("rate_limited", "slow down")
    async with budget.slot():
        waiting = asyncio.create_task(entered(budget))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with budget.slot():
        pass
    budget.charge("a", call(0.4))
    assert budget.refuse("b") is None, "nothing is in flight any more"


async def entered(budget: Budget) -> None:
    async with budget.slot():
        raise AssertionError("the slot was taken")


@settings(max_examples=60, deadline=None)
@given(
    costs=st.lists(st.floats(min_value=0.01, max_value=3), min_size=1, max_size=80),
    agents=st.integers(1, 8),
    slots=st.integers(1, 5),
    run_usd=st.floats(min_value=1, max_value=20),
)
def test_spent_never_passes_a_budget_by_more_than_the_calls_in_flight(
    costs: list[float], agents: int, slots: int, run_usd: float
) -> None:
    async def run() -> None:
        budget = Budget(run_usd=run_usd, ticket_usd=run_usd / 2, model_calls=slots)
        queue, spent = list(costs), defaultdict[str, float](float)
        in_flight = most = 0

        async def agent(name: str) -> None:
            nonlocal in_flight, most
            while queue and budget.refuse(name) is None:
                async with budget.slot():
                    in_flight += 1
                    most = max(most, in_flight)
                    await asyncio.sleep(0)
                    if queue:
                        cost = queue.pop()
                        spent[name] += cost
                        budget.charge(name, call(cost))
                    in_flight -= 1

        await asyncio.gather(*(agent(f"t{number}") for number in range(agents)))
        dearest = max(costs)
        assert most <= slots
        assert budget.spent_usd <= run_usd + agents * dearest
        assert all(cost <= run_usd / 2 + dearest for cost in spent.values())
        assert budget.spent_usd == pytest.approx(sum(spent.values()))

    asyncio.run(run())


WORK = Work("r1", ticket(), "branch", "base", "tree", "box")


class Heavy:
    """A validator that counts how many are at work in each method."""

    def __init__(self) -> None:
        self.now, self.most = Counter[str](), Counter[str]()
        self.gate = asyncio.Event()

    async def _work(self, kind: str) -> None:
        self.now[kind] += 1
        self.most[kind] = max(self.most[kind], self.now[kind])
        try:
            await self.gate.wait()
        finally:
            self.now[kind] -= 1

    async def static(self, work: Work, commit: str) -> str | None:
        await self._work("check")
        return None

    async def instantiate(self, work: Work, commit: str) -> Verdict | None:
        await self._work("fork")
        return None

    async def validate(self, work: Work, commit: str, iteration: int) -> Verdict:
        await self._work("check")
        return Verdict("v", "verified", "", None)

    async def release(self, work: Work) -> None:
        await self._work("release")


async def test_checks_wait_for_a_place_and_letting_go_does_not() -> None:
    heavy = Heavy()
    throttled = ThrottledValidator(heavy, Gate("checks", 3))
    checks = [asyncio.create_task(throttled.validate(WORK, "c", 1)) for _ in range(3)]
    statics = [asyncio.create_task(throttled.static(WORK, "c")) for _ in range(3)]
    leaving = [asyncio.create_task(throttled.release(WORK)) for _ in range(10)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert heavy.now == {"check": 3, "release": 10}
    statics[-1].cancel()
    heavy.gate.set()
    await asyncio.wait([*checks, *statics, *leaving])
    assert statics[-1].cancelled()
    assert heavy.most == {"check": 3, "release": 10}
    await throttled.static(WORK, "c")


class Crowd:
    """As much of a driver as is throttled: each call waits until it may end."""

    def __init__(self) -> None:
        self.now, self.gate = Counter[str](), asyncio.Event()

    async def create(self, name: str, *, ttl_s: float, sources: object = None) -> None:
        await self._call("create")

    async def fork(self, name: str, sources: object) -> None:
        await self._call("fork")

    async def delete(self, name: str) -> None:
        await self._call("delete")

    async def get(self, name: str) -> str:
        return name

    async def _call(self, what: str) -> None:
        self.now[what] += 1
        await self.gate.wait()


async def test_sandboxes_come_fork_and_go_through_gates_of_their_own() -> None:
    crowd, world = Crowd(), World([ticket()])
    gates = {name: Gate(name, limit) for name, limit in (("sandboxes", 1), ("forks", 2), ("deletions", 3))}
    driver: Any = ThrottledDriver(cast(Any, crowd), gates, TrackedWorkspaces(world.workspaces))
    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(driver.create(f"s{number}", ttl_s=1))
            group.create_task(driver.fork(f"s{number}", {}))
            group.create_task(driver.delete(f"s{number}"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert crowd.now == {"create": 1, "fork": 2, "delete": 3}
        assert await driver.get("s1") == "s1"
        crowd.gate.set()
    assert crowd.now == {"create": 5, "fork": 5, "delete": 5}


async def test_work_is_known_as_long_as_it_is_out() -> None:
    world = World([ticket()])
    tracked = TrackedWorkspaces(world.workspaces)
    work = await tracked.prepare("r1", ticket())
    assert tracked.out == {"t1": work}

    async def fail(_: str, name: str) -> None:
        if name == "release worktree":
            raise CheckoutError("git is busy")

    world.before.append(fail)
    with pytest.raises(CheckoutError):
        await tracked.release(work)
    assert tracked.out == {"t1": work}, "what was not let go of is still out"
    world.before.clear()
    await tracked.release(work)
    assert tracked.out == {}
