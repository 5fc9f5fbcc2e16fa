"""Claims, over both stores: each ticket has one worker at a time, and an earlier one can write nothing any more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from sqlmodel import Session

from graphs.ports import LeaseLost
from harness.store.claims import LEASE_S, Claims
from harness.store.database import Database
from harness.store.effects import StoreEffects
from harness.store.journal import IllegalMove, StoreJournal
from harness.store.runs import Runs
from harness.store.standings import waits
from harness.store.tables import RunRow, WorkerRow
from sandbox.presence import born_at
from tasks.errors import UsageError
from tasks.states import AgentState
from tasks.ticket import Ticket

STEPS: Final[list[AgentState]] = [
    "preparing",
    "generating",
    "checking",
    "instantiating",
    "validating",
    "submitting",
]


def run_row(name: str = "r1") -> RunRow:
    return RunRow(
        id=name,
        project="shop",
        base="b" * 40,
        state="running",
        settings_digest="",
        settings="{}",
        spurline="0",
        tickets=3,
        started_at=1.0,
    )


async def begun(database: Database, tickets: int = 3) -> list[str]:
    names = [f"t{number}" for number in range(tickets)]
    await Runs(database).begin(run_row(), [Ticket(id=name, title=name) for name in names])
    return names


def move_elsewhere(session: Session, worker: str, seen_at: float) -> None:
    row = session.get_one(WorkerRow, worker)
    row.host, row.seen_at = "elsewhere", seen_at
    session.add(row)


def apart(session: Session, *workers: str) -> None:
    """As if each were on a machine of its own."""
    for worker in workers:
        row = session.get_one(WorkerRow, worker)
        row.host = f"the machine of {worker}"
        session.add(row)


def die(session: Session, worker: str) -> None:
    row = session.get_one(WorkerRow, worker)
    row.born -= 3600
    session.add(row)


def be(session: Session, worker: str, pid: int) -> None:
    row = session.get_one(WorkerRow, worker)
    row.pid, row.born = pid, born_at(pid) or 0.0
    session.add(row)


@contextlib.contextmanager
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as one:
        yield one


def kill(one: subprocess.Popen[bytes]) -> None:
    """Killed, and not reaped."""
    one.kill()
    os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)


async def test_a_ticket_is_taken_once_however_many_want_it(place: Path | str) -> None:
    async with Database(place) as one, Database(place) as other:
        names = await begun(one, 40)
        workers = [Claims(one, "r1", leads=False), Claims(other, "r1", leads=False), Claims(other, "r1", leads=False)]
        for worker in workers:
            await worker.begin()
        taken: Counter[str] = Counter()
        while sum(taken.values()) < len(names):
            for got in await asyncio.gather(*(worker.take(names, 3) for worker in workers)):
                taken.update(got)
        assert taken == Counter(names)
        assert sum(len(worker.held) for worker in workers) == 40
        assert all(await asyncio.gather(*(worker.take(names, 3) for worker in workers))) is False


async def test_all_workers_together_work_on_no_more_than_a_run_may(place: Path | str) -> None:
    async with Database(place) as one, Database(place) as other:
        names = await begun(one, 40)
        workers = [Claims(one, "r1", leads=False), Claims(other, "r1", leads=False)]
        for worker in workers:
            await worker.begin()
        for limit in (3, 8):
            for _ in range(3):
                await asyncio.gather(*(worker.take(names, 5, limit) for worker in workers))
                assert sum(len(worker.held) for worker in workers) == limit
        # One of them may have been quicker each time, and have all of them.
        less, more = sorted(workers, key=lambda worker: len(worker.held))
        await more.give_back(next(iter(more.held)), worked_s=1.0)
        assert len(await less.take(names, 5, 8)) == 1
        assert await less.take(names, 5, 8) == ()


async def test_who_takes_holds_nothing_of_the_dead_while_it_waits_for_the_run(postgres_url: str) -> None:
    """Whoever enters has the run first and frees then what the dead had: the other way round two would wait for each
    other."""
    async with Database(postgres_url) as database:
        await begun(database)
        dead, claims = Claims(database, "r1", leads=False), Claims(database, "r1", leads=False)
        await dead.begin()
        await claims.begin()
        await dead.take(["t0"], 1)
        await database.write(lambda session: die(session, dead.worker))
        with psycopg.connect(postgres_url.replace("+psycopg", "")) as entering:
            entering.execute("SELECT 1 FROM runs FOR UPDATE")
            taking = asyncio.create_task(claims.take(["t1"], 1, 3))
            waits_now = "SELECT 1 FROM pg_locks WHERE NOT granted"
            while entering.execute(waits_now).fetchone() is None:  # noqa: ASYNC110 - the server tells it to who asks
                await asyncio.sleep(0.01)
            entering.execute("SELECT 1 FROM agents WHERE ticket = 't0' FOR UPDATE NOWAIT")
        assert await taking == ("t1",)


async def test_only_one_leads(place: Path | str) -> None:
    async with Database(place) as one, Database(place) as other:
        await begun(one)
        leaders = [Claims(database, "r1") for database in (one, other, one, other)]
        results = await asyncio.gather(*(leader.begin() for leader in leaders), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["NoneType"] + ["UsageError"] * 3
        await Claims(other, "r1", leads=False).begin()
        winner = leaders[[result is None for result in results].index(True)]
        assert len(await winner.others()) == 1


async def test_an_earlier_holder_can_write_nothing_any_more(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        first, second = Claims(database, "r1", leads=False), Claims(database, "r1", leads=False)
        await first.begin()
        assert await first.take(["t0", "t1"], 2) == ("t0", "t1")
        journal = StoreJournal(database, "r1", claims=first)
        await journal.move("t0", "preparing")
        # Its machine stands still for longer than a lease, and is taken for dead.
        await database.write(lambda session: move_elsewhere(session, first.worker, 0.0))
        await second.begin()
        assert await second.take(["t0", "t1"], 1) == ("t0",)
        told: list[str] = []
        journal.listen(lambda event: told.append(event.kind))
        with pytest.raises(LeaseLost):
            await journal.move("t0", "generating")
        journal.emit("agent.activity", "t0", {"doing": "thinking"})
        with pytest.raises(LeaseLost):
            await StoreEffects(database, first).once("branch", "x", "t0", _never, _nothing)
        # What nobody has taken yet is not its own any more, either.
        with pytest.raises(LeaseLost):
            await journal.move("t1", "preparing")
        assert await first.renew({}) == {"t0", "t1"}
        await StoreJournal(database, "r1", claims=second).move("t0", "generating")
        states = {row.ticket: row.state for row in await Runs(database).agents("r1")}
        assert states == {"t0": "generating", "t1": "queued", "t2": "queued"}
        assert [event.kind for event in await Runs(database).events("r1")] == ["agent.state", "agent.state"]


async def _never() -> str:
    raise AssertionError("the effect is not this worker's any more")


async def _nothing() -> str | None:
    return None


async def test_a_process_of_this_machine_that_died_is_known_at_once(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        first = Claims(database, "r1")
        await first.begin()
        await first.take(["t0"], 1)
        with pytest.raises(UsageError):
            await Claims(database, "r1").begin()
        await database.write(lambda session: die(session, first.worker))
        second = Claims(database, "r1")
        await second.begin()
        assert await second.take(["t0", "t1"], 5) == ("t0", "t1")


async def test_a_process_that_was_killed_and_is_not_reaped_is_dead(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        first = Claims(database, "r1")
        await first.begin()
        with process() as other:
            await database.write(lambda session: be(session, first.worker, other.pid))
            assert len(await Claims(database, "r1").others()) == 1
            kill(other)
            assert await Claims(database, "r1").others() == []


async def test_a_worker_elsewhere_counts_until_its_lease_is_over(place: Path | str) -> None:
    now = 1000.0
    async with Database(place) as database:
        await begun(database)
        first, second = (Claims(database, "r1", leads=False, clock=lambda _: now) for _ in range(2))
        await first.begin()
        await first.take(["t0"], 1)
        await database.write(lambda session: move_elsewhere(session, first.worker, now))
        await second.begin()
        now += LEASE_S - 1
        assert await second.take(["t0"], 1) == ()
        await first.renew({"t0": 12.5})
        now += LEASE_S - 1
        assert await second.take(["t0"], 1) == ()
        # The clock jumps: the ticket changes hands, and the first one notices.
        now += 3600
        assert await second.take(["t0"], 1) == ("t0",)
        assert await first.renew({}) == {"t0"}
        (row, *_) = await Runs(database).agents("r1")
        assert row.worked_s == 12.5


@pytest.mark.parametrize("off_s", [3600.0, -3600.0])
async def test_a_worker_whose_clock_is_an_hour_off_neither_takes_nor_loses_a_ticket(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    @contextlib.contextmanager
    def there() -> Iterator[None]:
        """On the machine whose clock is wrong."""
        right_time = time.time
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda: right_time() + off_s)
            yield

    async with Database(postgres_url) as database:
        names = await begun(database)
        here, other = (Claims(database, "r1", leads=False) for _ in range(2))
        await here.begin()
        with there():
            await other.begin()
        await database.write(lambda session: apart(session, here.worker, other.worker))
        assert await here.take(["t0"], 1) == ("t0",)
        with there():
            assert await other.take(names, 2) == ("t1", "t2")
            assert (await other.wishes()).workers == 2
            assert await other.renew({}) == frozenset()
        assert await here.take(names, 3) == ()
        assert (await here.wishes()).workers == 2
        assert {one.ticket: one.holder for one in await here.standings()} == {
            "t0": here.worker,
            "t1": other.worker,
            "t2": other.worker,
        }
        await here.give_back("t0", worked_s=0.0, wait_s=50, fault=True)
        with there():
            assert await other.take(["t0"], 1) == ()
            (standing, *_) = await other.standings()
            assert waits(standing.not_before, time.time())
            await other.end()
        assert await here.renew({}) == frozenset()
        assert await Runs(database).worked_s(await Runs(database).find("r1")) < 3600


async def test_what_is_given_back_waits_and_counts_its_fault(place: Path | str) -> None:
    now = 1000.0
    async with Database(place) as database:
        await begun(database)
        claims = Claims(database, "r1", clock=lambda _: now)
        await claims.begin()
        await claims.take(["t0"], 1)
        await claims.give_back("t0", worked_s=3.0, wait_s=60, fault=True, reason="tries again")
        (row, *_) = await Runs(database).agents("r1")
        assert (row.holder, row.faults, row.worked_s, row.reason) == (None, 1, 3.0, "tries again")
        assert await claims.take(["t0"], 1) == ()
        now = 1060.0
        assert await claims.take(["t0"], 1) == ("t0",)
        assert claims.held["t0"] == 2


async def test_nobody_waits_an_hour_because_the_clock_was_set_back_by_one(place: Path | str) -> None:
    now = 10_000.0
    async with Database(place) as database:
        await begun(database)
        claims = Claims(database, "r1", clock=lambda _: now)
        await claims.begin()
        await claims.take(["t0"], 1)
        await claims.give_back("t0", worked_s=0.0, wait_s=2, fault=True)
        now -= 3600
        assert await claims.take(["t0"], 1) == ("t0",)


async def test_a_wish_is_heard_by_its_revision_and_keeps_a_ticket_from_being_taken(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        runs, claims = Runs(database), Claims(database, "r1")
        await claims.begin()
        assert (await claims.wishes()).revision == 0
        assert await runs.wish("r1", "paused", ["t1"]) == 1
        assert await runs.wish("r1", "paused") == 3
        await runs.limit("r1", {"agents": 5})
        await runs.limit("r1", {"checks": 2})
        seen = await claims.wishes()
        assert (seen.revision, seen.wish, seen.limits, seen.workers) == (4, "paused", '{"agents": 5, "checks": 2}', 1)
        assert await claims.take(["t0", "t1"], 5) == ("t0",)
        assert await runs.wish("r1", "") == 3
        assert await claims.take(["t1"], 5) == ("t1",)
        with pytest.raises(UsageError, match="no ticket 'nope'"):
            await runs.wish("r1", "paused", ["nope"])


async def test_budgets_of_single_tickets_stay_theirs(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        runs, claims = Runs(database), Claims(database, "r1")
        await claims.begin()
        await runs.limit("r1", {"ticket_minutes": 90}, ["t0", "t1"])
        await runs.limit("r1", {"max_iterations": 9}, ["t1"])
        await StoreJournal(database, "r1").move("t1", "failed", "out of budget")
        await runs.limit("r1", {"ticket_budget_usd": 8}, ["t1"])
        await runs.retry("r1", ["t1"], carry_on=True)
        assert (await claims.wishes()).limits == "{}"
        found = {one.ticket: json.loads(one.limits) for one in await claims.standings()}
        assert found == {
            "t0": {"ticket_minutes": 90},
            "t1": {"ticket_minutes": 90, "max_iterations": 9, "ticket_budget_usd": 8},
            "t2": {},
        }
        for limits, tickets in (({"agents": 2}, ["t0"]), ({"ticket_calls": 0}, []), ({"ticket_calls": 2}, ["nope"])):
            with pytest.raises(UsageError):
                await runs.limit("r1", limits, tickets)
        assert (await claims.wishes()).revision == 4


async def test_to_be_cancelled_is_for_good_and_a_pause_stays_until_it_is_taken_back(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database, 4)
        runs = Runs(database)
        journal = StoreJournal(database, "r1")
        await journal.move("t3", "error")
        await runs.wish("r1", "cancelled", ["t0"])
        await runs.wish("r1", "paused", ["t0", "t1"])
        await runs.wish("r1", "")
        assert [row.wish for row in await runs.agents("r1")] == ["cancelled", "", "", ""]
        await runs.wish("r1", "paused")
        assert await runs.retry("r1") == ("t3",)
        assert (await runs.find("r1")).wish == "paused"
        # What was to be cancelled with all of the run still is, when others are retried.
        await journal.move("t3", "error")
        await runs.wish("r1", "cancelled")
        assert await runs.retry("r1", ["t3"]) == ("t3",)
        assert (await runs.find("r1")).wish == ""
        assert [row.wish for row in await runs.agents("r1")] == ["cancelled"] * 3 + [""]


async def test_one_ticket_of_a_paused_run_goes_on_alone(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        runs = Runs(database)
        await StoreJournal(database, "r1").move("t2", "error")
        await runs.wish("r1", "paused")
        await runs.wish("r1", "", ["t0"])
        assert (await runs.find("r1")).wish == ""
        assert [row.wish for row in await runs.agents("r1")] == ["", "paused", ""]


async def test_nothing_is_wished_of_a_run_that_has_ended(place: Path | str) -> None:
    async with Database(place) as database:
        (name,) = await begun(database, 1)
        await StoreJournal(database, "r1").move(name, "error")
        for wish in ("paused", "cancelled"):
            assert await Runs(database).wish("r1", wish) == 0
            assert (await Runs(database).find("r1")).wish == ""


async def test_a_run_is_worked_on_as_long_as_somebody_works_on_it(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        row = await Runs(database).find("r1")
        assert await Runs(database).worked_s(row) == 0.0
        now = 1000.0
        first, second, third = (Claims(database, "r1", leads=False, clock=lambda _: now) for _ in range(3))
        # Two side by side, the first of them killed, and one a day later.
        await first.begin()
        now = 1050.0
        await second.begin()
        now = 1100.0
        await first.renew({})
        now = 1160.0
        await second.renew({})
        await second.end()
        now = 86_400.0
        await third.begin()
        now = 86_420.0
        await third.renew({})
        assert await Runs(database).worked_s(row) == 180.0


async def test_leaving_frees_what_is_held(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        first = Claims(database, "r1")
        await first.begin()
        await first.take(["t0", "t1"], 5)
        await first.end()
        second = Claims(database, "r1")
        await second.begin()
        assert await second.take(["t0", "t1", "t2"], 5) == ("t0", "t1", "t2")


async def test_an_end_gives_the_ticket_up(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        claims = Claims(database, "r1")
        await claims.begin()
        await claims.take(["t0"], 1)
        journal = StoreJournal(database, "r1", claims=claims)
        await journal.move("t0", "preparing")
        await journal.move("t0", "error", "gone", {"environment": True})
        (row, *_) = await Runs(database).agents("r1")
        assert (row.holder, row.lease_ends, row.environment) == (None, None, True)
        assert await claims.take(["t0"], 1) == ()


@pytest.mark.parametrize("row", ["generating", "validating", "submitting"])
async def test_a_row_that_a_loss_of_power_parted_from_the_position_is_put_right_once(
    place: Path | str, row: AgentState
) -> None:
    async with Database(place) as database:
        (ticket, *_) = await begun(database, 1)
        before = StoreJournal(database, "r1")
        for state in STEPS[: STEPS.index(row) + 1]:
            await before.move(ticket, state)
        claims = Claims(database, "r1", lease_s=60)
        await claims.begin()
        await claims.take([ticket], 1)
        journal = StoreJournal(database, "r1", claims=claims)
        await journal.move(ticket, "instantiating")
        await journal.move(ticket, "validating")
        with pytest.raises(IllegalMove):
            await journal.move(ticket, "checking")


async def test_nobody_takes_an_end_back_nor_says_verified_for_a_row_that_fell_behind(place: Path | str) -> None:
    async with Database(place) as database:
        one, other = await begun(database, 2)
        claims = Claims(database, "r1", lease_s=60)
        await claims.begin()
        await claims.take([one, other], 2)
        journal = StoreJournal(database, "r1", claims=claims)
        with pytest.raises(IllegalMove):
            await journal.move(one, "verified")
        await StoreJournal(database, "r1").move(other, "failed")
        with pytest.raises(IllegalMove):
            await journal.move(other, "generating")


async def test_who_enters_is_sure_of_what_it_takes_however_long_ago_it_was_made(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        claims = Claims(database, "r1", lease_s=1)
        # A baseline is built and started.
        await asyncio.sleep(1.1)
        await claims.begin()
        await claims.take(["t0"], 1)
        claims.ensure("t0")


async def test_what_was_lost_and_nobody_took_is_taken_again_and_nothing_else(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        claims, other = Claims(database, "r1", lease_s=60), Claims(database, "r1", leads=False, lease_s=60)
        await claims.begin()
        await other.begin()
        assert await claims.take(["t0", "t1"], 2) == ("t0", "t1")
        assert await other.take(["t2"], 1) == ("t2",)
        claims.forget("t0")
        assert [one.holder for one in await claims.standings()] == [None, claims.worker, other.worker]
        assert [one.holder for one in await other.standings()] == [claims.worker, claims.worker, other.worker]
        assert await other.take(["t0"], 1) == ()
        assert await claims.take(["t0", "t1", "t2"], 3) == ("t0",)
        claims.ensure("t0")
        await StoreJournal(database, "r1", claims=claims).move("t0", "preparing")


async def test_who_shows_no_life_for_a_lease_is_sure_of_nothing(place: Path | str) -> None:
    async with Database(place) as database:
        await begun(database)
        claims = Claims(database, "r1", lease_s=0.2)
        await claims.begin()
        await claims.take(["t0"], 1)
        await claims.renew({})
        claims.ensure("t0")
        with pytest.raises(LeaseLost):
            claims.ensure("t1")
        await asyncio.sleep(0.3)
        with pytest.raises(LeaseLost):
            claims.ensure("t0")
        await claims.renew({})
        claims.ensure("t0")
