"""Further attempts, over both stores: which ones go on from where, who may be answered, and what each begins with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.journal import StoreJournal
from harness.store.notes import Notes
from harness.store.runs import Runs
from harness.store.tables import AgentRow
from tasks.errors import UsageError
from tests.contract.test_claims_contract import begun


@pytest.fixture
async def database(place: Path | str) -> AsyncIterator[Database]:
    async with Database(place) as opened:
        await begun(opened)
        yield opened


async def row(database: Database, ticket: str = "t0") -> AgentRow:
    return await Runs(database).agent("r1", ticket)


async def worked(database: Database, ticket: str, state: str = "failed") -> None:
    """An attempt that came as far as its agent."""
    journal = StoreJournal(database, "r1")
    await journal.move(ticket, "preparing")
    await journal.move(ticket, "generating", "", {"branch": f"spurline/r1/{ticket}", "iterations": 1})
    await journal.move(ticket, state, "it is over")  # type: ignore[arg-type]  # a final state


async def test_a_further_attempt_carries_on_from_the_one_before_and_counts_anew(database: Database) -> None:
    runs = Runs(database)
    await worked(database, "t0")
    assert await runs.retry("r1", ["t0", "t0"], carry_on=True, note="look at legacy") == ("t0",)
    now = await row(database)
    assert (now.attempt, now.carries_on, now.state, now.iterations, now.branch) == (2, 1, "queued", 0, None)
    (standing, *_) = await Claims(database, "r1").standings()
    assert (standing.attempt, standing.carries_on) == (2, 1)
    assert [note.text for note in (await Notes(database).untold("r1"))["t0"]] == ["look at legacy"]
    (before,) = await runs.attempts("r1")
    assert (before.attempt, before.state, before.reason) == (1, "failed", "it is over")
    await worked(database, "t0", "unproven")
    await runs.retry("r1", ["t0"], carry_on=True)
    assert (await row(database)).carries_on == 2
    await worked(database, "t0", "error")
    await runs.retry("r1", ["t0"])
    assert (await row(database)).carries_on == 0


async def test_one_that_never_began_leaves_what_it_would_have_gone_on_from(database: Database) -> None:
    runs, journal = Runs(database), StoreJournal(database, "r1")
    await worked(database, "t0")
    await runs.retry("r1", ["t0"], carry_on=True)
    await journal.move("t0", "cancelled", "cancelled by the user")
    await runs.retry("r1", ["t0"], carry_on=True)
    assert ((await row(database)).attempt, (await row(database)).carries_on) == (3, 1)
    # One of which nothing is there begins anew, whatever is asked.
    await journal.move("t1", "cancelled", "cancelled by the user")
    await runs.retry("r1", ["t1"], carry_on=True)
    assert (await row(database, "t1")).carries_on == 0


async def test_only_who_asked_is_answered(database: Database) -> None:
    runs = Runs(database)
    await worked(database, "t0", "needs_human")
    await worked(database, "t1", "failed")
    for tickets, words in (
        (["t0", "t1"], "'t1' is failed"),
        (["t2"], "'t2' is queued"),
        (["nope"], "no ticket 'nope'"),
    ):
        with pytest.raises(UsageError, match=words):
            await runs.answer("r1", tickets, "euros")
    with pytest.raises(UsageError, match="says nothing"):
        await runs.answer("r1", ["t0"], " ")
    assert (await row(database)).state == "needs_human"
    await runs.answer("r1", ["t0"], "euros")
    assert ((await row(database)).state, (await row(database)).carries_on) == ("queued", 1)
    assert [note.text for note in (await Notes(database).untold("r1"))["t0"]] == ["euros"]
    with pytest.raises(UsageError, match="'t0' is queued"):
        await runs.answer("r1", ["t0"], "and hurry")


async def test_what_the_attempt_before_was_never_told_is_told_to_the_next_one(database: Database) -> None:
    await Notes(database).leave("r1", ["t0"], "take euros")
    await worked(database, "t0")
    await Runs(database).retry("r1", ["t0"])
    (note,) = (await Notes(database).untold("r1"))["t0"]
    assert note.text == "take euros"
