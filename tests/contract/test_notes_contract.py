"""Notes to agents, over both stores: left for who still listens, told once, and what was never told stays known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.journal import StoreJournal
from harness.store.notes import LONGEST, Note, Notes
from harness.store.runs import Runs
from harness.store.tables import NoteRow
from tasks.errors import UsageError
from tests.contract.test_claims_contract import begun


@pytest.fixture
async def database(place: Path | str) -> AsyncIterator[Database]:
    async with Database(place) as opened:
        await begun(opened)
        yield opened


async def rows(database: Database, ticket: str = "t0") -> tuple[NoteRow, ...]:
    return await Notes(database).of("r1", ticket)


async def test_a_note_waits_until_it_is_told_and_is_told_once(database: Database) -> None:
    notes = Notes(database)
    before = (await Claims(database, "r1").wishes()).revision
    await notes.leave("r1", ["t0", "t1"], " take euros\x1b[31m\nplease ")
    await notes.leave("r1", ["t0"], "and hurry")
    assert (await Claims(database, "r1").wishes()).revision == before + 2
    waiting = await notes.untold("r1")
    assert [note.text for note in waiting["t0"]] == ["take euros\nplease", "and hurry"]
    assert set(waiting) == {"t0", "t1"}
    ids = [note.id for note in waiting["t0"]]
    assert await notes.told(ids[:1]) == (ids[0],)
    assert (await notes.untold("r1"))["t0"] == (Note(ids[1], "and hurry"),)
    first = (await rows(database))[0].told_at
    assert await notes.told(ids) == (ids[1],)
    assert (await rows(database))[0].told_at == first
    assert set(await notes.untold("r1")) == {"t1"}
    assert [event.data["note"] for event in await Runs(database).events("r1", "t0")] == ids


async def test_what_was_told_in_an_attempt_is_known_to_whoever_takes_that_one_up_and_to_no_later_one(
    database: Database,
) -> None:
    notes, journal = Notes(database), StoreJournal(database, "r1")
    await notes.leave("r1", ["t0", "t1"], "take euros")
    await notes.told([note.id for note in await notes.to_know("r1", "t0")])
    assert [note.text for note in await notes.to_know("r1", "t0")] == ["take euros"]
    await journal.move("t0", "failed", "out of budget")
    await Runs(database).retry("r1", ["t0"], carry_on=True, note="and hurry")
    assert [note.text for note in await notes.to_know("r1", "t0")] == ["and hurry"]


async def test_nobody_is_told_who_does_not_listen_any_more(database: Database) -> None:
    notes, journal = Notes(database), StoreJournal(database, "r1")
    await journal.move("t0", "needs_human", "which currency?")
    await journal.move("t1", "failed", "out of budget")
    with pytest.raises(UsageError, match="'t0' is needs_human") as asks:
        await notes.leave("r1", ["t2", "t0"], "euros")
    assert "runs answer r1 -t t0" in (asks.value.hint or "")
    with pytest.raises(UsageError, match="'t1' is failed") as failed:
        await notes.leave("r1", ["t1"], "euros")
    assert "--carry-on" in (failed.value.hint or "")
    with pytest.raises(UsageError, match="no ticket 'nope'"):
        await notes.leave("r1", ["t2", "nope"], "euros")
    # All or none.
    assert await notes.untold("r1") == {}


@pytest.mark.parametrize("text", ["", " \n", "\x00", "x" * (LONGEST + 1)])
async def test_a_note_says_something_that_can_be_said(database: Database, text: str) -> None:
    with pytest.raises(UsageError, match="the note"):
        await Notes(database).leave("r1", ["t0"], text)
