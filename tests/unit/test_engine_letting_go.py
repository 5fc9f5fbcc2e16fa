"""What happens in the moment in which a ticket is let go of: nothing of it is lost, left or done by two."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from harness.engine import supervisor as engine
from harness.store.checkpoints import open_checkpoints
from harness.store.database import Database
from harness.store.journal import StoreJournal
from harness.store.runs import Runs
from harness.store.standings import Standing
from harness.store.tables import AgentRow, WorkerRow
from tasks.errors import StoreError
from tasks.states import AgentState
from tests.unit.floor import Floor, failing
from tests.unit.memory_ports import Script, ticket, verdict
from tests.unit.test_engine_steering import Held, elsewhere_and_silent

pytestmark = pytest.mark.usefixtures("no_task_left")


def died(session: Session, worker: str) -> None:
    row = session.get_one(WorkerRow, worker)
    row.born -= 3600
    session.add(row)


async def test_what_a_dead_worker_had_is_taken_up_by_one_with_nothing_else_to_do(
    database: Database, tmp_path: Path
) -> None:
    floor = Floor(database, [ticket("a")])
    held = Held(floor, "validate", "a")
    other = Floor(database, floor.tickets)
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        first = asyncio.create_task((await floor.begin(saver=saver)).work(floor.tickets))
        await held.all_there.wait()
        second = asyncio.create_task((await other.joined(leads=False, saver=saver)).work(floor.tickets))
        await asyncio.sleep(1.2)
        await database.write(lambda session: died(session, floor.claims.worker))
        async with asyncio.timeout(20):
            (ending,) = await second
        assert ending.state == "verified"
        held.go.set()
        await first


class WithoutItsEnd(StoreJournal):
    """The power goes before an end is noted."""

    async def move(
        self, ticket: str, state: AgentState, reason: str = "", data: Mapping[str, Any] | None = None
    ) -> None:
        if state == "verified":
            raise StoreError("gone")
        await super().move(ticket, state, reason, data)


def fell_behind(session: Session, state: str) -> None:
    row = session.get_one(AgentRow, ("r1", "a"))
    row.state, row.commit, row.submission, row.verdict = state, None, None, None
    session.add(row)


@pytest.mark.parametrize("row", ["queued", "generating", "submitting"])
@pytest.mark.parametrize("torn_down", [True, False])
async def test_what_was_handed_over_is_verified_though_a_loss_of_power_set_its_row_back(
    database: Database, tmp_path: Path, row: str, torn_down: bool
) -> None:
    floor = Floor(database, [ticket("a")])
    submitted: list[str] = []

    async def submits(of: str, name: str) -> None:
        if name == "submit":
            submitted.append(of)

    floor.world.before.append(submits)
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        if torn_down:
            await (await floor.begin(saver=saver)).work(floor.tickets)
        else:
            floor.make_journal = WithoutItsEnd
            with pytest.raises(StoreError, match="gone"):
                await (await floor.begin(saver=saver)).work(floor.tickets)
        await floor.claims.end()
        await database.write(lambda session: fell_behind(session, row))
        floor.make_journal = StoreJournal
        (ending,) = await (await floor.joined(saver=saver)).work(floor.tickets)
    assert (ending.state, submitted, floor.crashes) == ("verified", ["a"], [])
    agent = (await floor.rows())["a"]
    assert (agent.state, (agent.commit, agent.verdict)) == ("verified", floor.world.submitted["a"])
    assert agent.submission


async def test_a_ticket_that_is_cancelled_as_it_is_paused_ends(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a")])
    static, release = Held(floor, "static", "a"), Held(floor, "delete sandbox", "a")
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        work = asyncio.create_task((await floor.begin(saver=saver)).work(floor.tickets))
        await static.all_there.wait()
        await Runs(database).wish("r1", "paused")
        await asyncio.sleep(1.2)
        static.go.set()
        await release.all_there.wait()
        await Runs(database).wish("r1", "cancelled")
        await asyncio.sleep(1.2)
        release.go.set()
        async with asyncio.timeout(20):
            endings = await work
    assert [one.state for one in endings] == ["cancelled"]
    assert not floor.world.out
    assert not floor.world.sandboxes


async def test_what_is_wished_of_a_ticket_that_moves_in_that_moment_is_heard(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor = Floor(database, [ticket("a")])
    held = Held(floor, "validate", "a")
    supervisor = await floor.begin()
    standings, moved = floor.claims.standings, list[str]()

    async def meanwhile() -> tuple[Standing, ...]:
        found = await standings()
        if found[0].limits != "{}" and not moved:
            moved.append("a")
            supervisor.noted("a", "validating", None)
        return found

    monkeypatch.setattr(floor.claims, "standings", meanwhile)
    work = asyncio.create_task(supervisor.work(floor.tickets))
    await held.all_there.wait()
    await Runs(database).limit("r1", {"max_iterations": 2}, ["a"])
    async with asyncio.timeout(20):
        while floor.limits.rounds("a").iterations != 2:  # noqa: ASYNC110 - the supervisor looks by itself
            await asyncio.sleep(0.05)
    held.go.set()
    await work
    assert moved == ["a"]


async def test_a_sign_of_life_breaks_off_no_letting_go(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_SIGN_OF_LIFE_S", 0.1)
    floor = Floor(database, [ticket("a")])
    validate, release = Held(floor, "validate", "a"), Held(floor, "delete sandbox", "a")
    work = asyncio.create_task((await floor.begin()).work(floor.tickets))
    await validate.all_there.wait()
    await Runs(database).wish("r1", "cancelled")
    await release.all_there.wait()
    await asyncio.sleep(0.5)
    release.go.set()
    endings = await work
    await floor.check({ending.ticket: ending for ending in endings})


async def test_what_fails_after_it_was_lost_is_nobodys_defect(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a"), ticket("b")])
    held = Held(floor, "validate", "a")
    thief = Floor(database, floor.tickets)
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        work = asyncio.create_task((await floor.begin(saver=saver)).work(floor.tickets))
        await held.all_there.wait()
        await database.write(lambda session: elsewhere_and_silent(session, floor.claims.worker))
        second = await thief.joined(leads=False, saver=saver)
        await second.work(floor.tickets)
        floor.world.before.append(failing(RuntimeError("broken"), "a", "validate"))
        held.go.set()
        endings = await work
    assert [one.state for one in endings] == ["verified", "verified"]


async def test_a_ticket_that_is_retried_as_it_is_let_go_of_is_worked_by_one(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket("a")], {"a": Script(verdicts=[verdict("verified")])})
    broken = failing(RuntimeError("broken"), "a", "static")
    floor.world.before.append(broken)
    release = Held(floor, "delete sandbox", "a")
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        supervisor = await floor.begin(saver=saver)
        work = asyncio.create_task(supervisor.work(floor.tickets))
        await release.all_there.wait()
        floor.world.before.remove(broken)
        again = Held(floor, "generate", "a")
        await Runs(database).retry("r1", ["a"])
        await asyncio.sleep(1.2)
        release.go.set()
        await again.all_there.wait()
        await asyncio.sleep(0.7)
        assert "a" in floor.claims.held
        assert "a" in floor.workspaces.out
        again.go.set()
        async with asyncio.timeout(20):
            (ending,) = await work
    assert ending.state == "verified"


def late(session: Session) -> None:
    row = session.get_one(AgentRow, ("r1", "a"))
    row.worked_s = 3600.0
    session.add(row)


async def test_what_was_being_handed_over_is_though_its_time_was_over_before_it_is_taken_up(
    database: Database, tmp_path: Path
) -> None:
    floor = Floor(database, [ticket("a")])
    held = Held(floor, "release worktree", "a")
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        work = asyncio.create_task((await floor.begin(saver=saver)).work(floor.tickets))
        await held.all_there.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await floor.claims.end()
        held.go.set()
        await database.write(late)
        (ending,) = await (await floor.joined(saver=saver)).work(floor.tickets)
    assert ending.state == "verified"
    assert floor.world.names("a").count("submit") == 1
