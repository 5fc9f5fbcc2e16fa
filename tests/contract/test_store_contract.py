"""What the store promises, run on a real database file and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from harness.store.backend import backend_of
from harness.store.database import Database
from harness.store.documents import BaselineResults, Messages, Verdicts
from harness.store.effects import StoreEffects
from harness.store.journal import IllegalMove, StoreJournal
from harness.store.runs import Runs, tally
from harness.store.schema import newest
from harness.store.tables import EventRow, RunRow
from tasks.errors import StoreError, UsageError
from tasks.events import Event
from tasks.ticket import Ticket


@pytest.fixture
async def database(place: Path | str) -> AsyncIterator[Database]:
    async with Database(place) as opened:
        yield opened


def run_row(name: str = "r1", at: float = 1.0) -> RunRow:
    return RunRow(
        id=name,
        project="shop",
        base="a" * 40,
        state="running",
        settings_digest="d",
        settings="{}",
        spurline="0",
        tickets=1,
        started_at=at,
    )


async def begun(database: Database, *tickets: str) -> StoreJournal:
    await Runs(database).begin(run_row(), [Ticket(id=name, title=name) for name in tickets])
    return StoreJournal(database, "r1", clock=lambda: 5.0)


async def test_moves_are_durable_and_told(database: Database) -> None:
    journal = await begun(database, "t1")
    told: list[Event] = []
    journal.listen(told.append)
    await journal.move("t1", "preparing")
    await journal.move("t1", "generating", data={"iterations": 1, "branch": "b"})
    journal.emit("model.call", "t1", {"input_tokens": 10, "cost_usd": 0.25})
    journal.emit("model.call", "t1", {"input_tokens": 5, "cost_usd": 0.5})
    await journal.move("t1", "failed", "out of budget")
    (agent,) = await Runs(database).agents("r1")
    assert (agent.state, agent.reason, agent.iterations, agent.branch) == ("failed", "out of budget", 1, "b")
    assert (agent.input_tokens, agent.cost_usd, agent.model_calls) == (15, 0.75, 2)
    assert agent.ended_at == 5.0
    assert tally([agent])["failed"] == 1
    events = await Runs(database).events("r1", "t1")
    assert [event.to_json() for event in events] == [event.to_json() for event in told]


async def test_a_final_state_never_moves(database: Database) -> None:
    journal = await begun(database, "t1")
    await journal.move("t1", "cancelled")
    with pytest.raises(IllegalMove):
        await journal.move("t1", "preparing")
    assert len(await Runs(database).events("r1")) == 1


async def test_verified_needs_a_submission(database: Database) -> None:
    journal = await begun(database, "t1")
    await journal.move("t1", "preparing")
    with pytest.raises(IllegalMove):
        await journal.move("t1", "verified")


async def test_one_failing_write_does_not_fail_its_neighbours(database: Database) -> None:
    def bad(session: Session) -> None:
        session.add(EventRow(run="r", kind="k", at=0, data="half done"))
        session.flush()
        raise ValueError("mine alone")

    def good(session: Session) -> None:
        session.add(EventRow(run="r", kind="k", at=0, data="kept"))

    results = await asyncio.gather(
        database.write(good), database.write(bad), database.write(good), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), ValueError, type(None)]
    rows = await database.read(lambda session: session.exec(select(EventRow.data)).all())
    assert list(rows) == ["kept", "kept"]


async def test_what_succeeds_beside_a_failure_is_written_once(database: Database) -> None:
    runs = Runs(database)
    effects = StoreEffects(database)

    async def act() -> str:
        return "done"

    async def look() -> str | None:
        return None

    def bad(session: Session) -> None:
        session.add(RunRow.model_validate(run_row("r1").model_dump()))
        session.add(EventRow(run="r1", kind="bad", at=0, data="{}"))

    results = await asyncio.gather(
        runs.begin(run_row("r1"), [Ticket(id="t", title="t")]),
        database.write(bad),
        runs.begin(run_row("r2"), [Ticket(id="t", title="t")]),
        effects.once("branch", "x", "t", act, look),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), StoreError, type(None), str]
    assert {run.id for run in await runs.list()} == {"r1", "r2"}
    assert await runs.events("r1") == ()


async def test_two_may_say_the_same_at_once(place: Path | str) -> None:
    async with Database(place) as one, Database(place) as other:
        document = {"conclusion": "failed", "why": "x"}
        names = await asyncio.gather(
            *(Verdicts(store).save("r", "t", document) for store in (one, other) for _ in range(20))
        )
        await asyncio.gather(
            *(BaselineResults(store).put("v", "d", {"from": n}) for n, store in enumerate((one, other) * 20))
        )
        assert len(set(names)) == 1
        assert (await Verdicts(other).load(names[0])) == document
        assert await BaselineResults(one).get("v", "d") == await BaselineResults(other).get("v", "d")


async def test_a_hundred_writers_at_once(database: Database) -> None:
    journal = await begun(database, *[f"t{n}" for n in range(100)])

    async def work(ticket: str) -> None:
        await journal.move(ticket, "preparing")
        for _ in range(10):
            journal.emit("agent.activity", ticket, {"doing": "x"})
        await journal.move(ticket, "generating")

    await asyncio.gather(*(work(f"t{n}") for n in range(100)))
    assert len(await Runs(database).events("r1")) == 1200
    assert {agent.state for agent in await Runs(database).agents("r1")} == {"generating"}


async def test_two_processes_worth_of_databases_read_and_write_side_by_side(place: Path | str) -> None:
    async with Database(place) as one, Database(place) as other:
        await begun(one, "t1", "t2")
        journals = {"t1": StoreJournal(one, "r1"), "t2": StoreJournal(other, "r1")}

        async def work(ticket: str) -> None:
            await journals[ticket].move(ticket, "preparing")
            for _ in range(60):
                await journals[ticket].move(ticket, "generating")

        await asyncio.gather(work("t1"), work("t2"))
        assert len(await Runs(one).events("r1")) == 122


async def test_everything_queued_is_on_disk_after_close(place: Path | str) -> None:
    database = Database(place)
    journal = await begun(database, "t1")
    for number in range(2000):
        journal.emit("agent.activity", "t1", {"n": number})
    database.close()
    database.close()
    async with Database(place) as again:
        assert len(await Runs(again).events("r1")) == 2000


async def test_nothing_is_queued_after_close(place: Path | str) -> None:
    database = Database(place)
    journal = await begun(database, "t")
    database.close()
    database.close()
    with pytest.raises(StoreError, match="is closed"):
        database.post(lambda session: None)
    async with asyncio.timeout(30):
        with pytest.raises(StoreError, match="is closed"):
            await database.write(lambda session: None)
    journal.emit("agent.activity", "t")
    with pytest.raises(StoreError, match="is closed"):
        await journal.move("t", "preparing")


async def test_an_effect_happens_once(database: Database) -> None:
    effects, acts = StoreEffects(database), []

    async def act() -> str:
        acts.append(1)
        return "branch x"

    async def look() -> str | None:
        raise AssertionError("nothing is unknown")

    assert await effects.once("branch", "x", "t1", act, look) == "branch x"
    assert await effects.once("branch", "x", "t1", act, look) == "branch x"
    assert acts == [1]


@pytest.mark.parametrize(("seen", "acts"), [("branch x", 1), (None, 2)])
async def test_an_unknown_effect_is_looked_up_first(database: Database, seen: str | None, acts: int) -> None:
    effects, tried = StoreEffects(database), []

    async def act() -> str:
        tried.append(1)
        if len(tried) == 1:
            raise ConnectionError("nobody knows whether it happened")
        return "branch x"

    async def look() -> str | None:
        return seen

    with pytest.raises(ConnectionError):
        await effects.once("branch", "x", "t1", act, look)
    assert await effects.once("branch", "x", "t1", act, look) == "branch x"
    assert len(tried) == acts


async def test_documents(database: Database) -> None:
    verdicts, messages, results = Verdicts(database), Messages(database), BaselineResults(database)
    name = await verdicts.save("r1", "t1", {"conclusion": "failed", "b": 1, "a": "ü"})
    assert await verdicts.save("r1", "t1", {"a": "ü", "b": 1, "conclusion": "failed"}) == name
    assert (await verdicts.load(name))["a"] == "ü"
    assert await messages.text(await messages.keep("r1", "t1", "hello")) == "hello"
    assert await results.get("v", "d") is None
    await results.put("v", "d", {"outcome": "pass"})
    assert await results.get("v", "d") == {"outcome": "pass"}
    with pytest.raises(StoreError):
        await verdicts.load("nope")
    with pytest.raises(StoreError):
        await messages.text("nope")


async def test_runs_are_found_by_prefix_and_last(database: Database) -> None:
    runs = Runs(database)
    for name, at in (("abc1", 1.0), ("abc2", 3.0), ("xyz", 2.0)):
        await runs.begin(run_row(name, at), [])
    assert (await runs.find("x")).id == "xyz"
    assert (await runs.find("last")).id == "abc2"
    with pytest.raises(UsageError, match="beginning of 2 runs"):
        await runs.find("abc")
    with pytest.raises(UsageError, match="no run 'q'"):
        await runs.find("q")


async def test_a_ticket_that_the_run_does_not_have_is_named(database: Database) -> None:
    await begun(database, "t1")
    runs = Runs(database)
    assert (await runs.agent("r1", "t1")).title == "t1"
    for asking in (
        runs.agent("r1", "t2"),
        runs.refuse("r1", "", ["t1", "t2"]),
        runs.wish("r1", "", ["t1", "t2"]),
        runs.retry("r1", ["t2"]),
    ):
        with pytest.raises(UsageError, match="run r1 has no ticket 't2'") as refused:
            await asking
        assert refused.value.hint == "`spurline runs show r1` lists them"


async def test_a_newer_schema_is_refused(place: Path | str) -> None:
    async with Database(place) as database:
        await database.write(
            lambda session: session.connection().execute(text("UPDATE alembic_version SET version_num = '9999'"))
        )
    with pytest.raises(StoreError, match="newer Spurline"):
        Database(place)


def test_migrations_and_tables_agree(place: Path | str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlmodel import SQLModel

    Database(place).close()
    engine = backend_of(place).connect()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == newest()
        assert compare_metadata(context, SQLModel.metadata) == []
    engine.dispose()


def written_by_an_earlier_version(place: Path | str, schema: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """A database of an earlier schema, with these rows, a table each."""
    from alembic import command
    from alembic.config import Config

    backend, config = backend_of(place), Config()
    config.set_main_option("script_location", str(files("harness.store") / "migrations"))
    engine = backend.connect()
    with engine.execution_options(**backend.writing).begin() as connection:
        if isinstance(place, str):
            connection.execute(text("DROP SCHEMA spurline CASCADE"))
        backend.lock(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, schema)
        for table, row in rows.items():
            names = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({names})"), row)
    engine.dispose()


@pytest.mark.parametrize(("born", "worked_s"), [(1_700_000_000.0, 120.0), (1_700_000_090.0, 30.0)])
async def test_a_run_of_an_earlier_version_was_worked_on_no_longer_than_it_was_there(
    place: Path | str, born: float, worked_s: float
) -> None:
    run = run_row(at=1_700_000_000.0).model_dump(exclude={"options", "wish", "limits", "revision"})
    worker = {"id": "w", "run": "r1", "host": "h", "pid": 1, "born": born, "leads": True, "seen_at": 1_700_000_120.0}
    written_by_an_earlier_version(place, "0003", {"runs": run, "workers": worker})
    async with Database(place) as database:
        runs = Runs(database)
        assert await runs.worked_s(await runs.find("r1")) == worked_s


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "spurline.db"
    path.write_text(json.dumps({"not": "a database"}) * 100)
    with pytest.raises(StoreError, match="not a database"):
        Database(path)


async def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StoreError, match="cannot make"):
        Database(tmp_path / "state" / "spurline.db")


async def test_events_of_some_kinds_and_when_the_last_one_was(database: Database) -> None:
    journal = await begun(database, "t1", "t2")
    assert await Runs(database).last_event_at("r1") is None
    await journal.move("t1", "preparing")
    journal.emit("agent.activity", "t1", {"doing": "thinking"})
    await journal.move("t2", "preparing")
    kinds = [event.kind for event in await Runs(database).events("r1", kinds=("agent.state",))]
    assert kinds == ["agent.state", "agent.state"]
    assert [event.kind for event in await Runs(database).events("r1", "t1", kinds=("agent.activity",))] == [
        "agent.activity"
    ]
    assert await Runs(database).last_event_at("r1") == 5.0
    assert await Runs(database).last_event_at("none") is None
    assert await Runs(database).tickets("r1") == {"t1", "t2"}


async def test_many_verdicts_are_loaded_in_parts(database: Database) -> None:
    verdicts = Verdicts(database)
    saved = [await verdicts.save("r1", "t1", {"conclusion": "failed", "number": number}) for number in range(250)]
    found = {name: document["number"] async for name, document in verdicts.load_all([*saved, "none"])}
    assert found == {name: number for number, name in enumerate(saved)}
