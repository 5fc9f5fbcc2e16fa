"""Steering a run from outside, and taking it up again: nothing is lost or done twice, and nobody pays for faults."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlmodel import Session

from graphs.loop import owner
from harness.engine.supervisor import Drained
from harness.store.checkpoints import open_checkpoints
from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.runs import Runs
from harness.store.tables import WorkerRow
from tasks.errors import BaselineError, EnvironmentFault, ModelError, SandboxGone, UsageError
from tasks.states import is_final
from tests.unit.floor import Floor, failing
from tests.unit.memory_ports import Script, ticket, verdict

pytestmark = pytest.mark.usefixtures("no_task_left")


class Held:
    """Tickets that stop in one step until they are let go."""

    def __init__(self, floor: Floor, at: str, *tickets: str) -> None:
        self.at, self.tickets, self.go = at, set(tickets), asyncio.Event()
        self.there: set[str] = set()
        self.all_there = asyncio.Event()
        floor.world.before.append(self)

    async def __call__(self, of: str, name: str) -> None:
        if name == self.at and of in self.tickets:
            self.there.add(of)
            if self.there == self.tickets:
                self.all_there.set()
            await self.go.wait()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await true():  # noqa: ASYNC110 - it is the store that is asked
            await asyncio.sleep(0.02)


def elsewhere_and_silent(session: Session, worker: str) -> None:
    row = session.get_one(WorkerRow, worker)
    row.host, row.seen_at = "elsewhere", 0.0
    session.add(row)


async def states(floor: Floor) -> dict[str, str]:
    return {name: row.state for name, row in (await floor.rows()).items()}


async def test_a_paused_ticket_stops_at_its_next_step_and_goes_on_there(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a"), ticket("b")])
    held = Held(floor, "static", "a")
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        work = asyncio.create_task((await floor.begin(saver=saver)).work(floor.tickets))
        await held.all_there.wait()
        assert await Runs(database).wish("r1", "paused", ["a"]) == 1
        await asyncio.sleep(1.2)
        held.go.set()

        async def paused() -> bool:
            # It is given back after it was said to be paused.
            given_back = (await floor.rows())["a"].holder is None
            return given_back and (await states(floor)) == {"a": "paused", "b": "verified"}

        await until(paused)
        assert (await floor.rows())["a"].reason == "paused by the user"
        assert "instantiate" not in floor.world.names("a")
        assert "delete sandbox" in floor.world.names("a")
        assert "a" in floor.world.out
        await Runs(database).wish("r1", "", ["a"])
        endings = await work
    await floor.check({ending.ticket: ending for ending in endings})
    # No step that had ended was taken twice.
    assert floor.world.names("a").count("generate") == 1
    assert floor.world.names("a").count("static") == 1


async def test_a_paused_run_starts_nothing(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket(f"t{number}") for number in range(6)])
    held = Held(floor, "generate", "t0", "t1")
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        work = asyncio.create_task((await floor.begin(agents=2, saver=saver)).work(floor.tickets))
        await held.all_there.wait()
        await Runs(database).wish("r1", "paused")
        await asyncio.sleep(1.2)
        held.go.set()

        async def paused() -> bool:
            return Counter((await states(floor)).values()) == {"paused": 2, "queued": 4}

        await until(paused)
        assert {row.reason for row in (await floor.rows()).values()} == {"paused by the user"}
        await Runs(database).wish("r1", "")
        endings = await work
    await floor.check({ending.ticket: ending for ending in endings})


async def test_a_cancelled_ticket_ends_now_and_leaves_nothing(database: Database) -> None:
    floor = Floor(database, [ticket("a"), ticket("b", depends=("a",)), ticket("c")])
    held = Held(floor, "validate", "a")
    work = asyncio.create_task((await floor.begin()).work(floor.tickets))
    await held.all_there.wait()
    await Runs(database).wish("r1", "cancelled", ["a"])
    endings = await work
    await floor.check({ending.ticket: ending for ending in endings})
    assert await states(floor) == {"a": "cancelled", "b": "cancelled", "c": "verified"}
    assert (await floor.rows())["a"].reason == "cancelled by the user"


async def test_a_cancelled_run_ends_everything(database: Database) -> None:
    floor = Floor(database, [ticket(f"t{number}") for number in range(8)])
    held = Held(floor, "validate", "t0", "t1", "t2")
    work = asyncio.create_task((await floor.begin(agents=3)).work(floor.tickets))
    await held.all_there.wait()
    await Runs(database).wish("r1", "cancelled")
    endings = await work
    await floor.check({ending.ticket: ending for ending in endings})
    assert set((await states(floor)).values()) == {"cancelled"}
    for asking in (Runs(database).refuse("r1", ""), Runs(database).wish("r1", "")):
        with pytest.raises(UsageError, match="was cancelled"):
            await asking


async def test_limits_change_while_the_run_goes_on(database: Database) -> None:
    floor = Floor(database, [ticket(f"t{number}") for number in range(9)])
    held = Held(floor, "generate", *(f"t{number}" for number in range(5)))
    work = asyncio.create_task((await floor.begin(agents=1)).work(floor.tickets))

    async def first() -> bool:
        return held.there == {"t0"}

    await until(first)
    await Runs(database).limit("r1", {"agents": 5, "checks": 2})
    await held.all_there.wait()
    assert floor.limits.gates["checks"].limit == 2
    held.go.set()
    await floor.check({ending.ticket: ending for ending in await work})


async def test_budgets_change_while_the_run_goes_on_and_for_single_tickets(database: Database) -> None:
    failed = Script(verdicts=[verdict("failed", "still 400")])
    floor = Floor(database, [ticket("t0"), ticket("t1"), ticket("t2")], {"t0": failed, "t1": failed, "t2": failed})
    held = Held(floor, "static", "t0", "t1", "t2")
    runs = Runs(database)
    work = asyncio.create_task((await floor.begin()).work(floor.tickets))
    await held.all_there.wait()
    await runs.limit("r1", {"max_iterations": 5, "ticket_minutes": 7, "budget_usd": 1.5})
    await runs.limit("r1", {"max_iterations": 1, "ticket_budget_usd": 9}, ["t1"])

    async def heard() -> bool:
        return floor.limits.rounds("t1").iterations == 1

    await until(heard)
    assert floor.limits.ticket_s("t0") == 7 * 60
    held.go.set()
    await floor.check({ending.ticket: ending for ending in await work})
    assert {name: row.iterations for name, row in (await floor.rows()).items()} == {"t0": 5, "t1": 1, "t2": 5}
    # It holds for whoever takes the run up, and for a further attempt.
    await floor.claims.end()
    await runs.retry("r1", ["t1"])
    again = Floor(database, floor.tickets, {"t1": failed})
    await (await again.joined()).work(floor.tickets)
    assert (again.limits.rounds("t0").iterations, again.limits.rounds("t1").iterations) == (5, 1)
    assert (await again.rows())["t1"].iterations == 1


async def test_a_ticket_that_is_given_less_time_than_it_took_is_out_of_budget(database: Database) -> None:
    floor = Floor(database, [ticket("t0"), ticket("t1")])
    held = Held(floor, "generate", "t0", "t1")
    work = asyncio.create_task((await floor.begin()).work(floor.tickets))
    await held.all_there.wait()
    await Runs(database).limit("r1", {"ticket_minutes": 0.0001}, ["t0"])

    async def over() -> bool:
        return (await states(floor))["t0"] == "failed"

    await until(over)
    held.go.set()
    endings = {ending.ticket: ending for ending in await work}
    await floor.check(endings)
    assert endings["t1"].state == "verified"
    assert (await floor.rows())["t0"].reason == "out of budget: 0.0001 minutes are over"


async def test_drained_it_stops_at_the_next_steps_and_another_process_goes_on(
    database: Database, tmp_path: Path
) -> None:
    floor = Floor(database, [ticket(f"t{number}") for number in range(6)])
    held = Held(floor, "static", "t0", "t1")
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        supervisor = await floor.begin(agents=2, saver=saver)
        work = asyncio.create_task(supervisor.work(floor.tickets))
        await held.all_there.wait()
        supervisor.drain()
        held.go.set()
        with pytest.raises(Drained):
            await work
        assert not floor.world.sandboxes
        assert floor.world.out == {"t0", "t1"}
        await floor.claims.end()
        assert await states(floor) == {"t0": "checking", "t1": "checking"} | {f"t{n}": "queued" for n in range(2, 6)}
        endings = await (await floor.joined(saver=saver)).work(floor.tickets)
    await floor.check({ending.ticket: ending for ending in endings})
    assert floor.world.names("t0").count("generate") == 1


async def test_a_fault_of_the_environment_is_tried_again_and_nobody_pays_for_it(
    database: Database, tmp_path: Path
) -> None:
    floor = Floor(database, [ticket("a")])
    left = 2

    async def fail_twice(_: str, name: str) -> None:
        nonlocal left
        if name == "validate" and left:
            left -= 1
            raise BaselineError("the baseline is sick")

    floor.world.before.append(fail_twice)
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        endings = await floor.work(faults=2, saver=saver)
    await floor.check(endings)
    assert endings["a"].state == "verified"
    row = (await floor.rows())["a"]
    assert (row.faults, row.iterations, row.failed_verdicts) == (2, 1, 0)
    assert floor.world.names("a").count("generate") == 1
    assert floor.world.heard["a"] == [floor.world.heard["a"][0]]
    assert [name for name, reason in floor.alarms if reason] == ["baseline"] * 2


async def test_faults_that_do_not_end_end_the_ticket(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a"), ticket("b")])
    floor.world.before.append(failing(BaselineError("sick"), "a", "instantiate"))
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        endings = await floor.work(faults=1, saver=saver)
    await floor.check(endings)
    assert (endings["a"].state, endings["a"].environment) == ("error", True)
    assert endings["b"].state == "verified"
    assert (await floor.rows())["a"].faults == 1


async def test_a_model_that_answers_nobody_holds_even_a_single_ticket(database: Database, tmp_path: Path) -> None:
    floor, tries = Floor(database, [ticket("a")]), 0

    async def model(_: str, name: str) -> None:
        nonlocal tries
        if name == "generate" and tries < 3:
            tries += 1
            raise ModelError("529")

    floor.world.before.append(model)
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        endings = await floor.work(faults=0, saver=saver)
    await floor.check(endings)
    assert endings["a"].state == "verified"
    assert (await floor.rows())["a"].faults == 0
    assert [event.data for event in floor.told if event.kind == "agent.fault"] == [
        {"times": 0, "code": "model", "reason": "529"}
    ] * 3


async def test_a_model_that_stays_away_ends_the_run_and_not_its_ticket(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a")])
    floor.world.before.append(failing(ModelError("connection refused"), "a"))
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        with pytest.raises(EnvironmentFault, match=r"the model did not recover within .*: connection refused"):
            await floor.work(faults=0, hold_s=1.0, saver=saver)
    row = (await floor.rows())["a"]
    assert (row.state, row.faults, row.holder) == ("generating", 0, None)
    assert row.reason == "tries again after a fault of the environment: connection refused"


async def test_a_ticket_that_is_refused_while_others_are_answered_ends(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a"), ticket("b")])
    supervisor = await floor.begin(faults=1)

    async def model(of: str, name: str) -> None:
        if name != "generate":
            return
        if of == "a":
            # Somebody else is answered all the time.
            supervisor.answered("b")
            raise ModelError("500")

    floor.world.before.append(model)
    endings = {ending.ticket: ending for ending in await supervisor.work(floor.tickets)}
    await floor.check(endings)
    assert (endings["a"].state, endings["a"].environment) == ("error", True)
    assert endings["b"].state == "verified"
    assert (await floor.rows())["a"].faults == 1


async def test_what_will_not_pass_by_itself_is_not_tried_again(database: Database) -> None:
    floor = Floor(database, [ticket("a")])
    floor.world.before.append(failing(ModelError("no key", transient=False), "a"))
    endings = await floor.work(faults=5)
    assert (endings["a"].state, endings["a"].environment) == ("error", True)
    assert floor.world.names("a").count("generate") == 1


async def test_an_account_that_is_refused_stops_the_run_and_ends_no_ticket(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket(f"t{number}") for number in range(20)])
    refused = ModelError("no credit", hint="pay", transient=False, of_all=True)
    floor.world.before.append(failing(refused, "t1"))
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        with pytest.raises(ModelError, match="no credit") as raised:
            await (await floor.begin(agents=2, saver=saver)).work(floor.tickets)
        assert raised.value.hint == "pay; then `spurline runs resume r1` goes on"
        rows = await floor.rows()
        assert rows["t1"].state == "generating"
        assert {row.state for row in rows.values() if is_final(row.state)} <= {"verified"}
        assert [row.faults for row in rows.values()] == [0] * 20
        floor.world.before.clear()
        await floor.claims.end()
        endings = await (await floor.joined(saver=saver)).work(floor.tickets)
    assert {ending.state for ending in endings} == {"verified"}
    await floor.check({ending.ticket: ending for ending in endings})


async def test_while_the_baseline_is_sick_tickets_that_need_it_are_held(database: Database) -> None:
    sick: str | None = "payments is not healthy"

    async def probe() -> str | None:
        return sick

    floor = Floor(database, [ticket("a"), ticket("b")])
    supervisor = await floor.begin(probe=probe)
    floor.breakers["baseline"].trip("payments is not healthy")
    work = asyncio.create_task(supervisor.work(floor.tickets))

    async def both_checked() -> bool:
        return all("static" in floor.world.names(name) for name in ("a", "b"))

    await until(both_checked)
    await asyncio.sleep(0.3)
    assert not [name for _, name in floor.world.calls if name in ("instantiate", "validate")]
    sick = None
    endings = await work
    await floor.check({ending.ticket: ending for ending in endings})
    assert set((await states(floor)).values()) == {"verified"}
    assert floor.alarms == [("baseline", "payments is not healthy"), ("baseline", None)]


async def test_a_run_whose_environment_does_not_recover_stops_and_can_be_taken_up(
    database: Database, tmp_path: Path
) -> None:
    async def probe() -> str | None:
        return "payments is not healthy"

    floor = Floor(database, [ticket("a")])
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        supervisor = await floor.begin(probe=probe, hold_s=0.3, saver=saver)
        floor.breakers["baseline"].trip("payments is not healthy")
        with pytest.raises(EnvironmentFault, match="did not recover within"):
            await supervisor.work(floor.tickets)
        await floor.breakers["baseline"].aclose()
        await floor.claims.end()
        assert await states(floor) == {"a": "checking"}
        (ending,) = await (await floor.joined(saver=saver)).work(floor.tickets)
    assert ending.state == "verified"


async def test_a_run_that_is_paused_while_the_model_is_gone_waits(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a")])
    gone = failing(ModelError("gone"), "a")
    floor.world.before.append(gone)
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        work = asyncio.create_task((await floor.begin(saver=saver, hold_s=2.0, faults=50)).work(floor.tickets))

        async def met() -> bool:
            return bool(floor.alarms)

        await until(met)
        await Runs(database).wish("r1", "paused")
        await asyncio.sleep(3.5)
        floor.world.before.remove(gone)
        await Runs(database).wish("r1", "")
        (ending,) = await work
    assert ending.state == "verified"


async def test_while_the_model_is_gone_one_ticket_at_a_time_tries(database: Database, tmp_path: Path) -> None:
    gone, tries, most = True, 0, 0

    async def model(_: str, name: str) -> None:
        nonlocal tries, most
        if name == "generate" and gone:
            tries += 1
            most = max(most, tries)
            await asyncio.sleep(0.05)
            tries -= 1
            raise ModelError("529")

    floor = Floor(database, [ticket(f"t{number}") for number in range(8)])
    floor.world.before.append(model)
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        supervisor = await floor.begin(agents=8, faults=99, saver=saver)
        floor.breakers["model"].trip("529")
        work = asyncio.create_task(supervisor.work(floor.tickets))
        await asyncio.sleep(1)
        assert most == 1
        gone = False
        floor.breakers["model"].mend()
        endings = await work
    await floor.check({ending.ticket: ending for ending in endings})
    assert set((await states(floor)).values()) == {"verified"}


async def test_a_sandbox_that_is_gone_is_forked_anew_for_the_same_commit(database: Database) -> None:
    floor = Floor(database, [ticket("a")])
    left = 1

    async def gone(_: str, name: str) -> None:
        nonlocal left
        if name == "validate" and left:
            left -= 1
            raise SandboxGone("its lease ended")

    floor.world.before.append(gone)
    endings = await floor.work()
    assert endings["a"].state == "verified"
    assert floor.world.names("a").count("instantiate") == 2
    assert floor.world.names("a").count("generate") == 1
    assert (await floor.rows())["a"].faults == 0


async def test_two_workers_share_a_run_and_no_ticket_is_worked_twice(database: Database, tmp_path: Path) -> None:
    one = Floor(database, [ticket(f"t{number}") for number in range(30)])
    two = Floor(database, one.tickets)
    two.world = one.world

    async def slowly(_: str, name: str) -> None:
        await asyncio.sleep(0.005)

    one.world.before.append(slowly)
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        first = await one.begin(agents=3, saver=saver)
        second = await two.joined(agents=3, saver=saver, leads=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(first.work(one.tickets))
            group.create_task(second.work(one.tickets))
    assert set((await states(one)).values()) == {"verified"}
    assert Counter(name for _, name in one.world.calls)["submit"] == 30
    took = [{event.ticket for event in floor.told if event.data.get("state") == "preparing"} for floor in (one, two)]
    assert all(took)
    assert not took[0] & took[1]


async def test_a_second_leader_is_refused_and_a_worker_is_not(database: Database) -> None:
    floor = Floor(database, [ticket("a")])
    await floor.begin()
    with pytest.raises(UsageError, match=r"run r1 is being worked on by process \d+"):
        await Claims(database, "r1").begin()
    await Claims(database, "r1", leads=False).begin()


async def test_who_lost_a_ticket_lets_go_of_it_without_a_word(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a")])
    held = Held(floor, "validate", "a")
    thief = Floor(database, floor.tickets)
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        work = asyncio.create_task((await floor.begin(saver=saver)).work(floor.tickets))
        await held.all_there.wait()
        # The first worker is taken for dead, as after a long stop of its machine.
        await database.write(lambda session: elsewhere_and_silent(session, floor.claims.worker))
        second = await thief.joined(leads=False, saver=saver)
        (ending,) = await second.work(floor.tickets)
        assert ending.state == "verified"
        held.go.set()
        (seen,) = await work
    assert seen == ending
    assert not floor.crashes
    ends = [event for event in await Runs(database).events("r1", "a") if event.data.get("state") == "verified"]
    assert len(ends) == 1
    assert "delete sandbox" not in floor.world.names("a")


async def test_a_retried_ticket_begins_anew_and_the_attempt_before_is_kept(database: Database, tmp_path: Path) -> None:
    floor = Floor(
        database, [ticket("a"), ticket("b")], {"a": Script(verdicts=[verdict("unproven"), verdict("verified")])}
    )
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        await floor.work(saver=saver)
        await floor.claims.end()
        assert await states(floor) == {"a": "unproven", "b": "verified"}
        with pytest.raises(UsageError, match="'b' is verified"):
            await Runs(database).retry("r1", ["b"])
        assert await Runs(database).retry("r1") == ("a",)
        row = (await floor.rows())["a"]
        assert (row.state, row.attempt, row.iterations, row.verdict) == ("queued", 2, 0, None)
        endings = await (await floor.joined(saver=saver)).work(floor.tickets)
    assert [ending.state for ending in endings] == ["verified", "verified"]
    assert (await floor.rows())["a"].branch == "spurline/r1/a@2"
    (before,) = await Runs(database).attempts("r1")
    assert (before.ticket, before.attempt, before.state) == ("a", 1, "unproven")
    assert floor.world.names("a").count("generate") == 2


async def test_every_ticket_that_is_not_started_has_its_reason(database: Database) -> None:
    floor = Floor(database, [ticket("a"), ticket("b", depends=("a",)), ticket("c")])
    held = Held(floor, "generate", "a")
    work = asyncio.create_task((await floor.begin(agents=1)).work(floor.tickets))
    await held.all_there.wait()

    async def told() -> bool:
        reasons = {name: row.reason for name, row in (await floor.rows()).items()}
        return reasons["b"] == "depends on 'a', which has not ended" and reasons["c"] == "waits for a free agent"

    await until(told)
    held.go.set()
    await work


async def test_a_reason_that_an_earlier_process_stored_gives_way(database: Database) -> None:
    floor = Floor(database, [ticket("a"), ticket("b")])
    held = Held(floor, "generate", "a")
    paused = asyncio.create_task((await floor.begin(agents=1)).work(floor.tickets))
    await Runs(database).wish("r1", "paused", ["b"])

    async def reason_is(said: str) -> bool:
        return (await floor.rows())["b"].reason == said

    await until(lambda: reason_is("paused by the user"))
    paused.cancel()
    with pytest.raises(asyncio.CancelledError):
        await paused
    await floor.claims.end()
    await Runs(database).wish("r1", "")
    work = asyncio.create_task((await floor.joined(agents=1)).work(floor.tickets))
    await until(lambda: reason_is("waits for a free agent"))
    held.go.set()
    await work


async def test_what_was_begun_comes_before_what_was_not(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("first"), ticket("second"), ticket("late")])
    held = Held(floor, "static", "late")
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        supervisor = await floor.begin(agents=3, saver=saver)
        blocked = Held(floor, "prepare", "first", "second")
        work = asyncio.create_task(supervisor.work(floor.tickets))
        await held.all_there.wait()
        await blocked.all_there.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await floor.claims.end()
        held.go.set()
        blocked.go.set()
        floor.world.calls.clear()
        await (await floor.joined(agents=1, saver=saver)).work(floor.tickets)
    assert [of for of, name in floor.world.calls if name == "submit"] == ["late", "first", "second"]


async def test_what_was_committed_on_another_machine_is_begun_anew(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a")])
    held = Held(floor, "instantiate", "a")
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        work = asyncio.create_task((await floor.begin(saver=saver)).work(floor.tickets))
        await held.all_there.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await floor.claims.end()
        (row,) = (await floor.rows()).values()
        floor.world.elsewhere.add(str(row.commit))
        held.go.set()
        (ending,) = await (await floor.joined(saver=saver)).work(floor.tickets)
    assert ending.state == "verified"
    assert floor.world.names("a").count("generate") == 2
    assert "agent.begun_anew" in [event.kind for event in floor.told]


async def test_a_ticket_that_was_lost_to_nobody_is_taken_up_again(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a")])
    async with open_checkpoints(
        tmp_path / "checkpoints.db", lambda thread: floor.claims.ensure(owner(thread))
    ) as saver:
        supervisor = await floor.begin(saver=saver)

        async def lose(_: str, name: str) -> None:
            if name == "static":
                floor.world.before.clear()
                floor.claims.forget("a")

        floor.world.before.append(lose)
        (ending,) = await supervisor.work(floor.tickets)
    assert ending.state == "verified"
    assert floor.world.names("a").count("static") == 2


async def test_a_position_is_only_written_by_whoever_has_the_ticket(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a")])
    written: list[str] = []

    def fence(thread: str) -> None:
        written.append(thread)
        floor.claims.ensure(owner(thread))

    async with open_checkpoints(tmp_path / "checkpoints.db", fence) as saver:
        supervisor = await floor.begin(saver=saver)

        async def lose(_: str, name: str) -> None:
            if name == "static":
                floor.claims.forget("a")

        floor.world.before.append(lose)
        work = asyncio.create_task(supervisor.work(floor.tickets))

        async def fenced() -> bool:
            return "static" in floor.world.names("a") and not floor.world.sandboxes

        await until(fenced)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        state = await saver.aget_tuple({"configurable": {"thread_id": "r1/a"}})
    assert state is not None
    assert state.checkpoint["channel_values"]["step"] == "check"
    assert set(written) == {"r1/a"}
