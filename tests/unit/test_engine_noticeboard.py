"""The noticeboard: what waits for each agent, without a question to the store for every call."""

from __future__ import annotations

import asyncio

import pytest

from graphs.ports import Work
from harness.engine.noticeboard import Noticeboard
from harness.store.database import Database
from harness.store.notes import Notes
from harness.store.runs import Runs
from tests.unit.floor import Floor, run_row
from tests.unit.memory_ports import MemoryJournal, ticket

pytestmark = pytest.mark.usefixtures("no_task_left")


def work(name: str) -> Work:
    return Work("r1", ticket(name), "b", "c" * 40, "/w", "s")


async def test_what_is_told_waits_no_longer_and_is_said_once(database: Database) -> None:
    await Runs(database).begin(run_row(2), [ticket("t1"), ticket("t2")])
    notes, journal = Notes(database), MemoryJournal()
    board = Noticeboard(notes, journal, "r1")
    await notes.leave("r1", ["t1", "t2"], "take euros")
    assert board.waiting(work("t1")) == ()
    await board.take_up("t1")
    assert [note.text for note in board.waiting(work("t1"))] == ["take euros"]
    assert board.waiting(work("t2")) == ()
    await notes.leave("r1", ["t1"], "and hurry")
    await board.read()
    euros, hurry = board.waiting(work("t1"))
    await board.told(work("t1"), [euros])
    assert board.waiting(work("t1")) == (hurry,)
    # What was read before that and came after it changes nothing.
    await board.told(work("t1"), [euros, hurry])
    assert [(kind, of, data) for kind, of, data in journal.events] == [
        ("note.told", "t1", {"note": euros.id}),
        ("note.told", "t1", {"note": hurry.id}),
    ]
    assert len(board.waiting(work("t2"))) == 1


async def test_who_takes_a_ticket_up_elsewhere_has_to_know_what_was_told_in_its_attempt(database: Database) -> None:
    await Runs(database).begin(run_row(2), [ticket("t1"), ticket("t2")])
    notes = Notes(database)
    here, there = (Noticeboard(notes, MemoryJournal(), "r1") for _ in range(2))
    await notes.leave("r1", ["t1"], "take euros")
    await here.take_up("t1")
    await here.told(work("t1"), here.waiting(work("t1")))
    await there.take_up("t1")
    # What comes meanwhile takes nothing away.
    await notes.leave("r1", ["t1"], "and hurry")
    await there.read()
    assert [note.text for note in there.waiting(work("t1"))] == ["take euros", "and hurry"]
    await there.told(work("t1"), there.waiting(work("t1")))
    assert there.waiting(work("t1")) == ()


async def test_a_note_to_a_run_at_work_is_looked_for(database: Database) -> None:
    floor = Floor(database, [ticket("t1")])
    heard: list[int] = []

    async def wished() -> None:
        heard.append((await floor.claims.wishes()).revision)

    async def say(of: str, name: str) -> None:
        if name == "generate":
            await Notes(database).leave("r1", ["t1"], "take euros")
        if name == "validate":
            async with asyncio.timeout(30):
                while heard != [1]:  # noqa: ASYNC110 - the supervisor looks by itself
                    await asyncio.sleep(0.02)

    floor.world.before.append(say)
    await floor.work(wished=wished)
    assert heard == [1]
