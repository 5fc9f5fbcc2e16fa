"""One budget, several workers, over both stores: together they use all of it, and never more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlmodel import Session

from harness.agents.meter import ModelCall, OutOfBudget, Wanted
from harness.engine.budget import Budget, Caps
from harness.engine.model_limits import ModelLimits
from harness.engine.sharing import share
from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.journal import StoreJournal
from harness.store.purse import CALLS, COST_USD, TOKENS, Needs, Purse
from harness.store.runs import Runs
from harness.store.tables import WorkerRow
from tests.contract.test_claims_contract import begun, die

Open = Callable[[], Awaitable[Database]]

ENDLESS = {CALLS: float("inf"), TOKENS: float("inf"), COST_USD: float("inf")}
NONE = dict.fromkeys(ENDLESS, 0.0)


@pytest.fixture
async def open_one(place: Path | str) -> AsyncIterator[Open]:
    """Opens the store, as each process does for itself."""
    async with AsyncExitStack() as stack:

        async def opened() -> Database:
            return await stack.enter_async_context(Database(place))

        yield opened


def billed(tokens: int) -> ModelCall:
    return ModelCall("m", tokens - 5, 5, 0, 0, 0.1, 0.01, "end_turn")


@dataclass
class Worker:
    """One that takes part, with a budget of its own making."""

    database: Database
    caps: Caps
    leads: bool = False

    async def begin(self) -> None:
        self.claims = Claims(self.database, "r1", leads=self.leads)
        await self.claims.begin()
        self.purse = Purse(self.database, "r1", self.claims)
        self.journal = StoreJournal(self.database, "r1")
        self.budget = Budget(run=self.caps, ticket=Caps())
        self.meter = ModelLimits(self.budget, model_calls=20)
        await share(self.budget, self.purse)

    async def call(self, ticket: str, tokens: int) -> None:
        async with self.meter.call(ticket, Wanted(10, 10)) as slot:
            await asyncio.sleep(0.02)
            slot.charge(billed(tokens))
            self.journal.emit("model.call", ticket, {"input_tokens": tokens - 5, "output_tokens": 5, "cost_usd": 0.1})

    async def work(self, tickets: list[str], calls: int, tokens: int) -> None:
        """Call until there is no budget; share now and then, and where something is short."""
        ended = asyncio.Event()

        async def sharing() -> None:
            for turn in range(10_000):
                if ended.is_set():
                    return
                if self.budget.asks or turn % 20 == 0:
                    await share(self.budget, self.purse)
                await asyncio.sleep(0.01)

        async def one(ticket: str) -> None:
            with suppress(OutOfBudget):
                for _ in range(calls):
                    await self.call(ticket, tokens)

        task = asyncio.create_task(sharing())
        await asyncio.gather(*map(one, tickets))
        ended.set()
        await task
        await self.claims.end()


@pytest.mark.parametrize(
    ("caps", "most"),
    [(Caps(calls=40), 40), (Caps(tokens=2_000), 100), (Caps(usd=3.05), 30)],
    ids=["calls", "tokens", "usd"],
)
async def test_together_they_use_the_budget_and_no_more(open_one: Open, caps: Caps, most: int) -> None:
    database = await open_one()
    names = await begun(database, 30)
    workers = [Worker(await open_one(), caps, leads=number == 0) for number in range(3)]
    for worker in workers:
        await worker.begin()
    # What a call uses is not known before one was answered and all have heard of it; then all use the same.
    await workers[0].call(names[0], 20)
    for worker in workers:
        await share(worker.budget, worker.purse)
    await asyncio.gather(*(worker.work(names[at * 10 : at * 10 + 10], 20, 20) for at, worker in enumerate(workers)))
    assert sum(agent.model_calls for agent in await Runs(database).agents("r1")) == most


async def test_no_call_begins_on_what_is_being_given_back(open_one: Open) -> None:
    database = await open_one()
    first, second, *_ = await begun(database, 2)
    one, other = Worker(database, Caps(calls=20), leads=True), Worker(database, Caps(calls=20))
    await one.begin()
    assert not one.budget.is_shared
    await other.begin()
    with one.budget.reserved(first):
        await share(one.budget, one.purse)
        assert not one.budget.short(second)
        sharing = asyncio.create_task(share(one.budget, one.purse))
        await asyncio.sleep(0)
        assert one.budget.short(second)
        await sharing
        assert not one.budget.short(second)


def needs(busy: int = 0, waiting: int = 0, tokens: float = 0.0) -> Needs:
    """So many calls in flight and waiting for room; the first one that waits needs so many tokens."""
    return Needs({**NONE, CALLS: busy}, {**NONE, CALLS: waiting}, {**NONE, CALLS: 1, TOKENS: tokens})


async def test_who_is_alone_holds_all_and_who_comes_gets_what_is_left(open_one: Open) -> None:
    database = await open_one()
    await begun(database)
    caps = {**ENDLESS, CALLS: 12.0}
    first, second = Worker(database, Caps(calls=12), leads=True), Worker(database, Caps(calls=12))
    await first.begin()
    assert (await first.purse.take(caps, needs(2))).mine is None
    await second.begin()
    # Who was alone has not given anything back yet.
    assert (await second.purse.take(caps, needs(0, 2))).mine == {**ENDLESS, CALLS: 0}
    assert (await first.purse.take(caps, needs(2))).mine == {**ENDLESS, CALLS: 3}
    assert (await second.purse.take(caps, needs(0, 20))).mine == {**ENDLESS, CALLS: 9}
    assert (await first.purse.take(caps, needs(2, 20))).mine == {**ENDLESS, CALLS: 3}
    # Nobody holds what is not enough for one call, nor who needs nothing, nor who is dead.
    assert (await second.purse.take({**caps, TOKENS: 9.0}, needs(1, 1, tokens=10))).mine == {
        **NONE,
        CALLS: 1,
        COST_USD: ENDLESS[CALLS],
    }
    assert (await second.purse.take(caps, needs())).mine == {**ENDLESS, CALLS: 0}
    assert (await first.purse.take(caps, needs(0, 20))).mine == {**ENDLESS, CALLS: 12}
    await database.write(lambda session: die(session, first.claims.worker))
    assert (await second.purse.take(caps, needs(0, 2))).mine is None


async def test_calls_in_flight_hold_theirs_though_what_others_have_used_is_counted_twice(open_one: Open) -> None:
    database = await open_one()
    ticket, *_ = await begun(database)
    caps = {**ENDLESS, CALLS: 12.0}
    first, second = Worker(database, Caps(calls=12), leads=True), Worker(database, Caps(calls=12))
    await first.begin()
    await second.begin()
    assert (await first.purse.take(caps, needs(3))).mine == {**ENDLESS, CALLS: 4}
    assert (await second.purse.take(caps, needs(0, 20))).mine == {**ENDLESS, CALLS: 8}
    for _ in range(8):
        second.journal.emit("model.call", ticket, {"input_tokens": 1, "output_tokens": 1, "cost_usd": 0.1})
    # The second has not taken since: its eight calls are used, and held.
    assert (await first.purse.take(caps, needs(4))).mine == {**ENDLESS, CALLS: 4}
    assert (await second.purse.take(caps, needs(0, 20))).mine == {**ENDLESS, CALLS: 0}


async def test_what_one_takes_who_stood_still_is_not_there_for_others(open_one: Open) -> None:
    database = await open_one()
    await begun(database)
    caps = {**ENDLESS, CALLS: 12.0}
    first, second = Worker(database, Caps(calls=12), leads=True), Worker(database, Caps(calls=12))
    await first.begin()
    await second.begin()
    await first.purse.take(caps, needs())

    def stand_still(session: Session) -> None:
        row = session.get_one(WorkerRow, second.claims.worker)
        row.seen_at -= 3600
        session.add(row)

    await database.write(stand_still)
    # It asks anew before it renews its claims.
    assert (await second.purse.take(caps, needs(0, 9))).mine == {**ENDLESS, CALLS: 9}
    assert (await first.purse.take(caps, needs(0, 9))).mine == {**ENDLESS, CALLS: 3}
