"""The screen's feed over both databases: nothing is lost, nothing comes twice, and what is done is done."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlmodel import Session

from harness.project import Project, read_project
from harness.runtime.feed import StoreFeed
from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.documents import Verdicts
from harness.store.journal import StoreJournal
from harness.store.notes import Notes
from harness.store.runs import Runs
from harness.store.tables import AgentRow, EventRow, RunRow
from harness.store.workers import machine
from sandbox.hops import Lost
from sandbox.seen import Seen, SeenExchange, SeenHop
from tasks.errors import StoreError, UsageError
from tasks.ticket import Ticket
from tests.conftest import MakeRepo, commit_all, git
from tui.feed import PAGES, News
from tui.fleet import Fleet, fleet_of

RUN = "20260101-000000-abcd"
SETTINGS = "project: t\nbaseline: {entry: web, services: {web: {command: [a]}}}\n"
TICKETS = ("users", "orders", "points")


@pytest.fixture
def project(make_repo: MakeRepo) -> Project:
    return read_project(make_repo({"spurline.yaml": SETTINGS}))


@pytest.fixture
def store(place: Path | str, project: Project, monkeypatch: pytest.MonkeyPatch) -> Path | str:
    """Where the project has its store: what is opened by the project is the same."""
    if isinstance(place, Path):
        return project.state / "spurline.db"
    monkeypatch.setenv("SPURLINE_STORE", place)
    return place


@pytest.fixture
async def database(store: Path | str) -> AsyncIterator[Database]:
    async with Database(store, patience_s=0.2) as opened:
        await Runs(opened).begin(_run(), [Ticket(id=name, title=f"Mend {name}") for name in TICKETS])
        yield opened


@pytest.fixture
def feed(database: Database, project: Project) -> StoreFeed:
    return StoreFeed(project, database, RUN)


async def test_services_are_those_of_the_tickets_and_of_their_copies(
    feed: StoreFeed, database: Database, project: Project
) -> None:
    for name, services in (("users", "web"), ("orders", ""), ("other", "web")):
        (project.root / "tickets").mkdir(exist_ok=True)
        head = f"id: {name}\ntitle: Mend it\nservices: [{services}]"
        (project.root / "tickets" / f"{name}.md").write_text(f"---\n{head}\n---\nDo.\n")
    copies = [Ticket(id="users.02", title="again")]
    other = _run().model_copy(update={"id": "20260101-000001-abcd"})
    await Runs(database).begin(other, copies)
    assert await feed.services() == {"users": ("web",)}
    assert await StoreFeed(project, database, other.id).services() == {"users.02": ("web",)}


async def test_a_snapshot_and_its_news_are_all_that_happened(feed: StoreFeed, database: Database) -> None:
    journal = StoreJournal(database, RUN)
    await journal.move("users", "preparing")
    journal.emit("model.call", "users", {"cost_usd": 0.5})
    await journal.move("users", "generating", data={"iterations": 1})
    snapshot = await feed.snapshot()
    fleet = fleet_of(snapshot)
    assert (snapshot.run.state, snapshot.run.limits, snapshot.run.budget_usd) == ("interrupted", {"agents": 7}, 3.5)
    assert [agent.ticket for agent in snapshot.agents] == list(TICKETS)
    assert (fleet.agents["users"].state, fleet.agents["users"].cost_usd) == ("generating", 0.5)
    for number in range(3):
        journal.emit("model.call", "users", {"cost_usd": 0.25})
        await journal.move("orders" if number == 0 else "users", "preparing" if number == 0 else "generating")
        fleet = fleet.after((await feed.news()).events)
    assert (await feed.news()).events == ()
    anew = fleet_of(await feed.snapshot())
    assert {name: (one.state, one.cost_usd, one.iteration) for name, one in fleet.agents.items()} == {
        name: (one.state, one.cost_usd, one.iteration) for name, one in anew.agents.items()
    }
    assert fleet.agents["users"].cost_usd == pytest.approx(1.25)


async def test_an_event_that_becomes_visible_late_is_news_once(feed: StoreFeed, database: Database) -> None:
    await database.write(lambda session: session.add(_event(12, "second")))
    await feed.snapshot()
    await database.write(lambda session: session.add(_event(14, "fourth")))
    assert _said(await feed.news()) == ["fourth"]
    await database.write(lambda session: session.add(_event(11, "first")))
    await database.write(lambda session: session.add(_event(13, "third")))
    assert _said(await feed.news()) == ["first", "third"]
    assert _said(await feed.news()) == []


async def test_limits_are_those_said_last(feed: StoreFeed, database: Database) -> None:
    await feed.snapshot()
    StoreJournal(database, RUN).emit("run.limits", None, {"agents": 4, "checks": 2})
    await database.write(lambda session: None)
    assert (await feed.news()).run.limits == {"agents": 4, "checks": 2}
    assert (await feed.snapshot()).run.limits == {"agents": 4, "checks": 2}
    assert await feed.limit({"agents": 9}) == "agents 9"
    news = await feed.news()
    assert news.stale
    assert news.run.limits == {"agents": 9, "checks": 2}


async def test_a_pause_is_a_wish_and_is_taken_back(feed: StoreFeed, database: Database, project: Project) -> None:
    await feed.snapshot()
    assert f"`spurline -C {project.root} runs resume {RUN}` takes it up" in await feed.pause(["users"])
    assert (await feed.news()).stale
    assert [agent.wish for agent in (await feed.snapshot()).agents] == ["paused", "", ""]
    await feed.pause([])
    assert (await feed.snapshot()).run.wish == "paused"
    claims = Claims(database, RUN)
    await claims.begin()
    try:
        assert await feed.resume([]) == "3 tickets to go on"
    finally:
        await claims.end()
    assert (await feed.snapshot()).run.wish == ""


async def test_who_works_on_the_run_is_seen(feed: StoreFeed, database: Database, store: Path | str) -> None:
    assert not (await feed.snapshot()).run.worked_on
    async with Database(store) as other:
        claims = Claims(other, RUN)
        await claims.begin()
        run = (await feed.news()).run
        assert (run.worked_on, run.state) == (True, "running")
        await claims.end()
    assert (await feed.news()).run.state == "interrupted"


async def test_a_cancel_where_nobody_works_is_done_here_and_a_retry_queues_again(feed: StoreFeed) -> None:
    assert await feed.cancel(["users"]) == "1 ticket cancelled"
    await feed.snapshot()
    assert (await feed.retry(["users"])).startswith("1 ticket queued again; nobody works on the run")
    news = await feed.news()
    fleet = fleet_of(await feed.snapshot())
    assert news.stale
    assert (fleet.agents["users"].state, fleet.agents["users"].attempt) == ("queued", 2)
    with pytest.raises(UsageError, match="is queued"):
        await feed.retry(["orders"])


async def test_the_story_makes_the_same_fleet(feed: StoreFeed, database: Database) -> None:
    journal = StoreJournal(database, RUN)
    await journal.move("users", "preparing")
    await journal.move("users", "needs_human", "which currency?")
    told = Fleet().after(await feed.story())
    assert told.agents["users"].reason == "which currency?"


async def test_a_long_story_leaves_out_only_what_was_said(
    feed: StoreFeed, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.runtime.story.MOST", 10)
    journal = StoreJournal(database, RUN)
    await journal.move("users", "preparing")
    for number in range(50):
        journal.emit("agent.activity", "users", {"doing": f"step {number}"})
        journal.emit("model.call", "users", {"cost_usd": 1.0})
    await journal.move("users", "generating", data={"iterations": 1})
    story = await feed.story()
    assert 5 <= sum(event.kind == "agent.activity" for event in story) <= 10
    fleet = Fleet().after(story)
    assert (fleet.agents["users"].state, fleet.agents["users"].cost_usd) == ("generating", 50.0)


async def test_pages_of_a_ticket_that_has_not_begun(feed: StoreFeed) -> None:
    for page in PAGES:
        detail = await feed.detail("users", page)
        assert (detail.said, detail.verdict, detail.diff, detail.logs, detail.missing) == ((), None, "", (), {})
    with pytest.raises(UsageError, match="no ticket 'nobody'"):
        await feed.detail("nobody", "timeline")


async def test_hops_and_exchanges_of_a_verdict_are_what_was_seen(feed: StoreFeed, database: Database) -> None:
    hop = SeenHop("orders", "payments", "POST", "/charges", 400, "baseline", times=5, origin=True)
    exchange = SeenExchange("orders", "payments", "POST", "/charges", 400, "a: b\n\n{}", '\n{"error": "no"}')
    seen, baseline = Seen((hop,), (exchange,), "402\n\nno"), Seen((replace(hop, status=201, origin=False),), (), "201")
    definition = {"kind": "http", "request": {"method": "POST", "path": "/orders", "json": {"user": 7}}}
    document = _document("an order", definition=definition)
    old = await Verdicts(database).save(RUN, "orders", document)
    kept = [{"check": "an order", "baseline": baseline.to_json(), "sandbox": seen.to_json()}]
    new = await Verdicts(database).save(RUN, "users", {**document, "seen": kept})
    journal = StoreJournal(database, RUN)
    await journal.move("users", "failed", data={"verdict": new})
    await journal.move("orders", "failed", data={"verdict": old})
    verdict = (await feed.detail("users", "hops")).verdict
    assert verdict is not None
    assert (verdict.lost, verdict.checks[0].asked) == ((Lost("a", "b"),), 'POST /orders\n\n{"user": 7}')
    assert (verdict.checks[0].seen, verdict.checks[0].baseline_seen) == (seen, baseline)
    # One of an earlier version kept none.
    verdict = (await feed.detail("orders", "hops")).verdict
    assert verdict is not None
    assert (verdict.checks[0].seen, verdict.checks[0].baseline_seen) == (Seen(), Seen())


async def test_where_what_belongs_to_a_ticket_is(feed: StoreFeed, database: Database, project: Project) -> None:
    journal, branch = StoreJournal(database, RUN), f"spurline/{RUN}/users"
    nothing = await feed.links("users")
    assert (nothing.worktree, nothing.branch, nothing.restore, nothing.preview) == ("", "", "", "")
    assert shlex.split(nothing.show) == ["spurline", "-C", str(project.root), "runs", "show", RUN, "-t", "users"]
    assert nothing.show.startswith(f"{(await feed.snapshot()).run.cli} ")
    base = git(project.root, "rev-parse", "HEAD")
    await database.write(lambda session: session.add(_based(session.get_one(RunRow, RUN), base)))
    for name in ("app.py", "gone.py", "link.py", "-rf"):
        (project.root / name).write_text("x = 1\n")
    commit = commit_all(project.root, "second")
    git(project.root, "branch", branch, commit)
    # Its row has the commit when it has ended; until then what happened tells.
    await journal.move("users", "preparing")
    journal.emit("commit.made", "users", {"commit": commit, "iteration": 1})
    await journal.move("users", "generating", data={"branch": branch})
    folder = project.state / "worktrees" / RUN / "users"
    folder.mkdir(parents=True)
    (folder / "app.py").touch()
    (folder / "-rf").touch()
    # An agent can make a file lead wherever it likes.
    (folder / "link.py").symlink_to("/etc/passwd")
    (folder / "gone.py").symlink_to("gone.py")
    found = await feed.links("users")
    assert (found.worktree, found.branch, found.commit) == (str(folder), branch, commit)
    assert sorted(found.changed) == ["./-rf", "./app.py"]
    shutil.rmtree(folder)
    found = await feed.links("users")
    assert (found.worktree, found.changed) == ("", ())
    await asyncio.to_thread(subprocess.run, shlex.split(found.restore), check=True, capture_output=True)
    assert (project.root.with_name(f"{project.root.name}-users") / "app.py").exists()
    with pytest.raises(UsageError, match="no ticket 'nobody'"):
        await feed.links("nobody")
    await journal.move("users", "failed", data={"commit": commit})
    await Runs(database).retry(RUN, ["users"], carry_on=True)
    assert (await feed.links("users")).commit == commit
    await journal.move("users", "cancelled")
    await Runs(database).retry(RUN, ["users"])
    assert (await feed.links("users")).commit == ""


async def test_a_page_that_cannot_be_read_says_why(feed: StoreFeed, database: Database, project: Project) -> None:
    await StoreJournal(database, RUN).move("users", "preparing", data={"commit": "f" * 40})
    assert "change" in (await feed.detail("users", "change")).missing
    path = project.state / "transcripts" / RUN / "users.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"transcript":1}\nnonsense\n')
    assert "not a line of a transcript" in (await feed.detail("users", "conversation")).missing["conversation"]


async def test_what_another_machine_has_is_said_to_be_there(feed: StoreFeed, database: Database) -> None:
    def place(name: str) -> Any:
        return lambda session: session.exec(update(AgentRow).values(machine=name))

    await StoreJournal(database, RUN).move("users", "preparing", data={"commit": "f" * 40})
    await database.write(place("bellows"))
    for page in ("conversation", "change", "record"):
        assert "it is on bellows" in (await feed.detail("users", page)).missing[page]
    assert ("machine", "bellows") in (await feed.detail("users", "timeline")).facts
    await database.write(place(machine()))
    assert (await feed.detail("users", "conversation")).missing == {}
    assert "bellows" not in (await feed.detail("users", "change")).missing["change"]


async def test_a_run_that_is_gone_is_said(feed: StoreFeed, database: Database) -> None:
    await feed.snapshot()

    def drop(session: Session) -> None:
        for table in (EventRow, AgentRow, RunRow):
            session.exec(delete(table))

    await database.write(drop)
    with pytest.raises(UsageError, match="no longer in the store"):
        await feed.news()


async def test_it_reads_while_another_process_writes(tmp_path: Path, project: Project) -> None:
    path = tmp_path / "held.db"
    async with Database(path) as database:
        await Runs(database).begin(_run(), [Ticket(id="users", title="Mend")])
        feed = StoreFeed(project, database, RUN)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            assert [agent.ticket for agent in (await feed.snapshot()).agents] == ["users"]
            assert (await feed.news()).events == ()
        finally:
            other.close()


async def test_a_store_that_is_damaged_is_an_error_and_no_crash(tmp_path: Path, project: Project) -> None:
    path = tmp_path / "gone.db"
    async with Database(path) as database:
        await Runs(database).begin(_run(), [Ticket(id="users", title="Mend")])
        feed = StoreFeed(project, database, RUN)
        await feed.snapshot()
        other = sqlite3.connect(path)
        other.execute("ALTER TABLE events RENAME TO elsewhere")
        other.commit()
        with pytest.raises(StoreError, match="no such table"):
            await feed.news()
        other.execute("ALTER TABLE elsewhere RENAME TO events")
        other.commit()
        other.close()
        assert (await feed.news()).events == ()


async def test_a_store_that_a_newer_version_has_changed_is_called_that(tmp_path: Path, project: Project) -> None:
    path = tmp_path / "newer.db"
    async with Database(path) as database:
        await Runs(database).begin(_run(), [Ticket(id="users", title="Mend")])
        feed = StoreFeed(project, database, RUN)
        await feed.snapshot()
        other = sqlite3.connect(path)
        # What was only added does not concern it.
        other.execute("ALTER TABLE events ADD COLUMN more TEXT")
        other.execute("UPDATE alembic_version SET version_num = '9999'")
        other.commit()
        assert (await feed.news()).events == ()
        other.execute("ALTER TABLE events RENAME TO elsewhere")
        other.commit()
        other.close()
        with pytest.raises(StoreError, match="a newer Spurline"):
            await feed.news()


async def test_a_store_that_was_removed_is_said(tmp_path: Path, project: Project) -> None:
    path = tmp_path / "removed.db"
    async with Database(path) as database:
        await Runs(database).begin(_run(), [Ticket(id="users", title="Mend")])
        feed = StoreFeed(project, database, RUN)
        await feed.snapshot()
        path.rename(tmp_path / "elsewhere.db")
        with pytest.raises(StoreError, match="was removed or replaced"):
            await feed.news()
        (tmp_path / "elsewhere.db").rename(path)
        assert (await feed.news()).events == ()


async def test_a_store_that_another_process_holds_is_read_and_what_cannot_be_done_is_said(
    tmp_path: Path, project: Project
) -> None:
    path = tmp_path / "held.db"
    async with Database(path, patience_s=0.2) as database:
        await Runs(database).begin(_run(), [Ticket(id="users", title="Mend")])
        feed = StoreFeed(project, database, RUN)
        await feed.snapshot()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert (await feed.news()).events == ()
        with pytest.raises(StoreError, match="locked"):
            await feed.pause(())
        other.execute("ROLLBACK")
        assert await feed.pause(()) != ""
        other.close()
    # A file that is held for one process alone cannot even be read.
    alone = sqlite3.connect(path, isolation_level=None)
    alone.execute("PRAGMA locking_mode = EXCLUSIVE")
    alone.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        Database(path, patience_s=0.2)
    alone.close()


def _run() -> RunRow:
    return RunRow(
        id=RUN,
        project="t",
        base="0" * 40,
        state="running",
        settings_digest="",
        settings=json.dumps({"limits": {"agents": 7, "budget_usd": 3.5}}),
        spurline="0",
        tickets=len(TICKETS),
        started_at=1_700_000_000.0,
    )


def _based(row: RunRow, base: str) -> RunRow:
    row.base = base
    return row


def _document(check: str, **more: Any) -> dict[str, Any]:
    known = {"own": False, "baseline": "pass", "sandbox": "fail", "baseline_detail": "", "detail": "no", "flaky": False}
    return {
        "conclusion": "failed",
        "reason": "no",
        "commit": "c" * 40,
        "checks": [{"name": check, "lost": [{"service": "a", "callee": "b"}], **known, **more}],
        "forks": [{"service": "users", "generation": 1, "hops": 4}],
        "notes": [],
        "lost": [],
    }


def _event(seq: int, doing: str) -> EventRow:
    return EventRow(seq=seq, run=RUN, ticket="users", kind="agent.activity", at=1.0, data=json.dumps({"doing": doing}))


def _said(news: News) -> list[str]:
    return [event.data["doing"] for event in news.events]


async def test_a_note_waits_for_who_is_at_work(feed: StoreFeed, database: Database) -> None:
    said = await feed.note(["users", "orders"], "take euros\nplease")
    assert said.startswith("noted for 2 tickets; nobody works on the run")
    waiting = await Notes(database).untold(RUN)
    assert {ticket: [note.text for note in notes] for ticket, notes in waiting.items()} == {
        "users": ["take euros\nplease"],
        "orders": ["take euros\nplease"],
    }
    await StoreJournal(database, RUN).move("points", "needs_human", "how long?")
    with pytest.raises(UsageError, match="'points' is needs_human"):
        await feed.note(["points"], "a year")


async def test_an_answer_and_a_word_queue_again_who_carries_on(feed: StoreFeed, database: Database) -> None:
    journal = StoreJournal(database, RUN)
    for ticket, state in (("points", "needs_human"), ("users", "failed"), ("orders", "error")):
        await journal.move(ticket, "preparing")
        await journal.move(ticket, "generating", "", {"branch": f"spurline/{RUN}/{ticket}"})
        await journal.move(ticket, state, "it is over")  # type: ignore[arg-type]  # a final state
    assert (await feed.answer(["points"], "a year")).startswith("1 ticket answered")
    assert (await feed.carry_on(["users"], "try legacy")).startswith("1 ticket queued again, to carry on")
    assert (await feed.carry_on(["orders"], "")).startswith("1 ticket queued again, to carry on")
    rows = {row.ticket: row for row in await Runs(database).agents(RUN)}
    assert {name: (row.state, row.attempt, row.carries_on) for name, row in rows.items()} == dict.fromkeys(
        TICKETS, ("queued", 2, 1)
    )
    waiting = await Notes(database).untold(RUN)
    assert {ticket: [note.text for note in notes] for ticket, notes in waiting.items()} == {
        "points": ["a year"],
        "users": ["try legacy"],
    }


async def test_budgets_are_shown_as_they_are_by_now(feed: StoreFeed, database: Database) -> None:
    assert await feed.limit({"budget_usd": 9.5, "max_iterations": 3}) == "budget_usd 9.5, max_iterations 3"
    assert await feed.limit({"ticket_minutes": 90}, ["users"]) == "ticket_minutes 90 of 1 ticket"
    with pytest.raises(UsageError, match="whole run's"):
        await feed.limit({"budget_usd": 1}, ["users"])
    snapshot = await feed.snapshot()
    assert (snapshot.run.budget_usd, snapshot.run.budgets["max_iterations"]) == (9.5, 3)
    assert {agent.ticket: dict(agent.budgets) for agent in snapshot.agents if agent.budgets} == {
        "users": {"ticket_minutes": 90}
    }


async def test_a_sandbox_is_kept_of_who_goes_on_and_not_where_it_is_gone(feed: StoreFeed, database: Database) -> None:
    assert await feed.keep(["users", "orders"], 3600) == "to be kept when they end: users, orders"
    await StoreJournal(database, RUN).move("points", "error", "gone")
    with pytest.raises(UsageError, match="the sandbox is gone: points"):
        await feed.keep(["points"], 3600)
    kept = {agent.ticket: agent.keep_until for agent in await Runs(database).agents(RUN)}
    assert all(kept.values())
