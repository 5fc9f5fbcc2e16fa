"""Budgets and throttles: what may start, and what it cost."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import ExitStack
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.ports import Verdict, Work
from harness.agents.meter import ModelCall, OutOfBudget
from harness.engine.budget import NOTHING, Budget, Caps, Spent, spent_in
from harness.engine.gates import Gate
from harness.engine.throttle import ThrottledDriver, ThrottledValidator, TrackedWorkspaces
from harness.store.tables import AgentRow
from tasks.errors import CheckoutError
from tasks.ticket import Ticket
from tests.unit.memory_ports import VERIFIED, World, ticket


def call(cost_usd: float, stop_reason: str = "end_turn", *, tokens: int = 15) -> ModelCall:
    return ModelCall("m", tokens - 6, 5, 1000, 1, cost_usd, 0.1, stop_reason)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_calls_may_start_and_the_budgets_end_them() -> None:
    budget = Budget(run=Caps(usd=10), ticket=Caps(usd=2))
    assert budget.refuse("a") is None
    budget.charge("a", call(1.5))
    assert budget.refuse("a") == "the ticket's 2 USD are spent"
    assert budget.refuse("b") is None
    for name in "bcdef":
        budget.charge(name, call(1.5))
    assert budget.spent_usd == pytest.approx(9)
    assert budget.refuse("z") == "the run's 10 USD are spent"
    assert budget.refuse("a") == "the ticket's 2 USD are spent"


@pytest.mark.parametrize(
    ("caps", "words"),
    [
        (Caps(calls=3), "3 model calls are spent"),
        (Caps(tokens=1_000), "1,000 tokens are spent"),
        (Caps(minutes=1.5), "1.5 minutes are spent"),
    ],
)
@pytest.mark.parametrize("whose", ["run", "ticket"])
def test_each_measure_ends_a_ticket_or_the_run(caps: Caps, words: str, whose: str) -> None:
    clock = Clock()
    run, ticket = (caps, Caps()) if whose == "run" else (Caps(), caps)
    budget = Budget(run=run, ticket=ticket, clock=clock)
    for _ in range(3):
        with budget.reserved("a"):
            budget.charge("a", call(0, tokens=300))
        clock.now += 31
    with pytest.raises(OutOfBudget, match=f"the {whose}'s {words}"), budget.reserved("a"):
        raise AssertionError("the call was let go")
    assert (budget.refuse("b") is None) == (whose == "ticket")


def test_caps_can_be_changed_while_calls_are_in_flight() -> None:
    budget = Budget(run=Caps(calls=4), ticket=Caps(calls=2))
    with budget.reserved("a"), budget.reserved("b"):
        budget.allow(run=Caps(calls=2), ticket=Caps(calls=9), single={})
        # Two are on their way, and are left alone.
        assert budget.refuse("a") == "the run's 2 model calls are spent"
        budget.charge("a", call(0.1))
        budget.charge("b", call(0.1))
    assert budget.refuse("c") == "the run's 2 model calls are spent"
    budget.allow(run=Caps(calls=9), ticket=Caps(calls=1), single={"a": Caps(calls=3)})
    assert budget.refuse("a") is None
    assert budget.refuse("b") == "the ticket's 1 model calls are spent"
    budget.charge("a", call(0.1))
    assert budget.nearly_spent("a") == "3 of 3 model calls"
    assert budget.nearly_spent("c") == "1 of 1 model calls"


def test_what_broke_off_is_charged_too() -> None:
    budget = Budget(run=Caps(usd=10), ticket=Caps(usd=1))
    budget.charge("a", call(0.6, "broken"))
    assert budget.spent_usd == pytest.approx(0.6)
    assert budget.refuse("a") is not None


def test_calls_without_a_price_are_ended_by_tokens() -> None:
    budget = Budget(run=Caps(usd=1), ticket=Caps(usd=1, tokens=15_000))
    for _ in range(999):
        budget.charge("a", call(0.0))
    assert budget.refuse("a") is None
    budget.charge("a", call(0.0))
    assert budget.refuse("a") == "the ticket's 15,000 tokens are spent"


def test_a_call_reserves_what_its_tickets_last_one_used_or_the_mean_one() -> None:
    budget = Budget(run=Caps(usd=100), ticket=Caps(usd=10))
    budget.charge("dear", call(5.5))
    assert budget.refuse("dear") == "the ticket's 10 USD are spent"
    budget.charge("cheap", call(0.5))
    assert budget.refuse("cheap") is None
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(budget.reserved("new"))
        assert budget.refuse("new") == "the ticket's 10 USD are spent", "4 calls of 3 USD"
    assert budget.refuse("new") is None


def test_calls_in_flight_are_reserved() -> None:
    budget = Budget(run=Caps(usd=10), ticket=Caps(usd=100))
    budget.charge("a", call(1))
    with ExitStack() as stack:
        for number in range(9):
            stack.enter_context(budget.reserved(f"x{number}"))
        assert budget.refuse("y") == "the run's 10 USD are spent"
    assert budget.refuse("y") is None, "nothing is in flight any more"


def test_what_was_spent_before_a_restart_counts() -> None:
    row = AgentRow(run="r", ticket="a", place=0, title="", state="generating", model_calls=3, input_tokens=100)
    row.output_tokens, row.cache_read_tokens, row.cache_write_tokens, row.cost_usd = 20, 9_000, 30, 1.5
    assert spent_in(row) == Spent(calls=3, tokens=150, cost_usd=1.5)
    budget = Budget(run=Caps(calls=5), ticket=Caps(calls=4), spent={"a": spent_in(row), "b": Spent(1)})
    assert budget.refuse("a") is None
    budget.charge("a", call(0.5))
    assert budget.spent["a"] == Spent(4, 165, 2.0)
    assert budget.refuse("a") == "the ticket's 4 model calls are spent"
    assert budget.refuse("b") == "the run's 5 model calls are spent"


def test_a_ticket_that_is_taken_up_begins_with_what_its_attempt_used() -> None:
    budget = Budget(run=Caps(calls=5), ticket=Caps(calls=2))
    budget.charge("a", call(0.5))
    budget.charge("a", call(0.5))
    assert budget.refuse("a") == "the ticket's 2 model calls are spent"
    # Retried: what the attempt before used is the run's alone.
    budget.taken_up("a", NOTHING)
    assert budget.refuse("a") is None
    assert budget.own == Spent(2, 30, 1.0)
    # Another process worked on it meanwhile.
    budget.taken_up("a", Spent(2, 30, 1.0))
    assert budget.refuse("a") == "the ticket's 2 model calls are spent"


def test_what_other_processes_spent_counts_for_the_run_alone() -> None:
    budget = Budget(run=Caps(usd=10, minutes=10), ticket=Caps(usd=10))
    budget.charge("a", call(1))
    budget.shared(Spent(8, 100, 8.0, seconds=6_000), None)
    assert budget.spent_usd == 9
    assert budget.refuse("a") is None
    budget.shared(Spent(9, 100, 9.0), None)
    assert budget.refuse("a") == "the run's 10 USD are spent"


def test_minutes_stand_still_while_a_ticket_rests_and_go_on_after_a_restart() -> None:
    clock = Clock()
    budget = Budget(run=Caps(minutes=100), ticket=Caps(minutes=10), seconds=3_000, clock=clock)
    with budget.reserved("a"):
        clock.now += 300
    budget.rest("a")
    clock.now += 1_000
    assert budget.spent["a"].seconds == 300
    with budget.reserved("a"):
        clock.now += 301
    assert budget.refuse("a") == "the ticket's 10 minutes are spent"
    again = Budget(run=Caps(), ticket=Caps(minutes=10), spent=budget.spent, clock=clock)
    assert again.refuse("a") == "the ticket's 10 minutes are spent"
    clock.now += 1_400
    assert budget.refuse("b") == "the run's 100 minutes are spent"


@pytest.mark.parametrize(
    ("caps", "words"),
    [
        (Caps(usd=10, calls=100), "8 of 10 USD"),
        (Caps(calls=5), "4 of 5 model calls"),
        (Caps(tokens=75), "60 of 75 tokens"),
        (Caps(minutes=10), "9 of 10 minutes"),
    ],
)
def test_at_four_fifths_of_a_budget_it_is_nearly_spent(caps: Caps, words: str) -> None:
    clock = Clock()
    budget = Budget(run=Caps(), ticket=caps, clock=clock)
    heard = []
    for _ in range(3):
        heard.append(budget.nearly_spent("a"))
        with budget.reserved("a"):
            budget.charge("a", call(2))
            clock.now += 180
    assert (*heard, budget.nearly_spent("a")) == (None, None, None, words)


@settings(max_examples=60, deadline=None)
@given(
    costs=st.lists(st.floats(min_value=0.01, max_value=3), min_size=1, max_size=80),
    agents=st.integers(1, 8),
    run_usd=st.floats(min_value=1, max_value=20),
)
def test_spent_never_passes_a_budget_by_more_than_the_calls_in_flight(
    costs: list[float], agents: int, run_usd: float
) -> None:
    async def run() -> Budget:
        budget = Budget(run=Caps(usd=run_usd), ticket=Caps(usd=run_usd / 2))
        queue, spent = list(costs), defaultdict[str, float](float)

        async def agent(name: str) -> None:
            while queue and budget.refuse(name) is None:
                with budget.reserved(name):
                    await asyncio.sleep(0)
                    if queue:
                        cost = queue.pop()
                        spent[name] += cost
                        budget.charge(name, call(cost))

        await asyncio.gather(*(agent(f"t{number}") for number in range(agents)))
        dearest = max(costs)
        assert budget.spent_usd <= run_usd + agents * dearest
        assert all(cost <= run_usd / 2 + dearest for cost in spent.values())
        assert budget.spent_usd == pytest.approx(sum(spent.values()))
        return budget

    budget = asyncio.run(run())
    assert (budget._reserved, budget._all_reserved) == ({}, NOTHING)


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
    driver: Any = ThrottledDriver(cast(Any, crowd), gates, TrackedWorkspaces(world.workspaces), Gate("checks", 1))
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


class Inn:
    """As much of a driver and of a validator as it takes to see how many sandboxes there are at once."""

    def __init__(self) -> None:
        self.living, self.most, self.checked = set[str](), 0, list[str]()
        self.driver: Any = None

    async def create(self, name: str, *, ttl_s: float, sources: object = None) -> None:
        self.living.add(name)
        self.most = max(self.most, len(self.living))
        await asyncio.sleep(0)

    async def delete(self, name: str) -> None:
        self.living.discard(name)

    async def validate(self, work: Work, commit: str, iteration: int) -> Verdict:
        await asyncio.sleep(0.01)
        # As a look at the baseline does, for which everybody waits who is to be checked.
        await self.driver.create("a baseline's own", ttl_s=1)
        self.living.discard("a baseline's own")
        self.checked.append(work.ticket.id)
        return VERIFIED


async def test_sandboxes_are_not_made_far_ahead_of_their_checks() -> None:
    inn, tickets = Inn(), [ticket(f"t{number}") for number in range(60)]
    gates = {
        name: Gate(name, limit) for name, limit in (("sandboxes", 16), ("forks", 3), ("deletions", 4), ("checks", 2))
    }
    tracked = TrackedWorkspaces(World(tickets).workspaces)
    inn.driver = ThrottledDriver(cast(Any, inn), gates, tracked, Gate("checks", 1))
    validator = ThrottledValidator(cast(Any, inn), gates["checks"])

    async def worked(one: Ticket) -> None:
        work = await tracked.prepare("r1", one)
        await inn.driver.create(work.sandbox, ttl_s=1, sources={"b": "c"})
        await validator.validate(work, "c", 1)
        await inn.driver.delete(work.sandbox)

    async with asyncio.timeout(30):
        await asyncio.gather(*map(worked, tickets))
    assert sorted(inn.checked) == sorted(one.id for one in tickets)
    # Two that are checked, two that wait for it, and those that had found room before.
    assert inn.most <= 10


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
