"""A store, a document or a transcript that is damaged becomes a line where it would be shown; the screen goes on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from copy import deepcopy
from typing import Any

import pytest
from textual.widgets import Tabs

from harness.project import Project, read_project
from harness.runtime.feed import StoreFeed
from harness.store.database import Database
from harness.store.documents import Verdicts
from harness.store.journal import StoreJournal
from harness.store.runs import Runs
from harness.store.tables import RunRow
from harness.submission.keys import PUBLIC_NAME
from tasks.ticket import Ticket
from tests.conftest import MakeRepo
from tests.tui.memory_feed import MemoryFeed, detailed, fleet_feed
from tests.tui.screens import driven, rows, seen, until, until_seen
from tui.agent_screen import AgentScreen
from tui.app import SpurlineApp
from tui.exchange_screen import ExchangeScreen
from tui.feed import PAGES, Detail, Links

RUN = "20260101-000000-abcd"
SETTINGS = "project: t\nbaseline: {entry: web, services: {web: {command: [a]}}}\n"
HOP = {"caller": "a", "service": "b", "method": "GET", "path": "/", "status": 500, "served_by": "fork"}
CHECK = {
    "name": "the word",
    "own": True,
    "kind": "http",
    "baseline": "fail",
    "runs": ["fail"],
    "sandbox": "fail",
    "definition": {},
    "lost": [],
}
VERDICT: dict[str, Any] = {
    "conclusion": "failed",
    "reason": "a check fails",
    "commit": "c0ffee",
    "checks": [],
    "forks": [],
    "notes": [],
    "lost": [],
}
RARE = pytest.mark.chaos
"""Damage that is met in the same place as another one here."""
DOCUMENTS = [
    "no JSON",
    pytest.param("[]", marks=RARE),
    pytest.param("7", marks=RARE),
    "{}",
    pytest.param(json.dumps({**VERDICT, "checks": 7}), marks=RARE),
    json.dumps({**VERDICT, "checks": [CHECK, None]}),
    json.dumps({**VERDICT, "checks": [{**CHECK, "name": ["a"]}]}),
    json.dumps({**VERDICT, "lost": [{"who": 1}]}),
    json.dumps({**VERDICT, "seen": [{"check": "the word", "baseline": None, "sandbox": {"hops": [HOP]}}]}),
    pytest.param(json.dumps({**VERDICT, "seen": 3}), marks=RARE),
]


@pytest.fixture
def project(make_repo: MakeRepo) -> Project:
    return read_project(make_repo({"spurline.yaml": SETTINGS}))


@pytest.fixture
async def database(project: Project) -> AsyncIterator[Database]:
    async with Database(project.state / "spurline.db") as opened:
        row = RunRow(
            id=RUN,
            project="t",
            base="0" * 40,
            state="running",
            settings_digest="d",
            settings="{}",
            spurline="0",
            tickets=2,
            started_at=1.0,
        )
        await Runs(opened).begin(row, [Ticket(id=name, title=f"Mend {name}") for name in ("users", "orders")])
        journal = StoreJournal(opened, RUN)
        verdict = await Verdicts(opened).save(RUN, "users", VERDICT)
        await journal.move("users", "preparing")
        await journal.move("users", "failed", "a check fails", {"verdict": verdict, "branch": "b"})
        yield opened


def damage(project: Project, statement: str, *values: str | bytes) -> None:
    with closing(sqlite3.connect(project.state / "spurline.db")) as store, store:
        assert store.execute(statement, values).rowcount > 0


async def look_at(feed: StoreFeed, said: Mapping[str, str], *, everywhere: bool = True) -> None:
    """Go through the pages of the ticket, or only those on which something is said. The screen is still there after the
    last one."""
    app = SpurlineApp(feed)
    async with app.run_test(size=(160, 40)) as pilot:
        await until_seen(pilot, "✗ users")
        rows(app).point("users")
        await pilot.press("enter")
        await until_seen(pilot, "a check fails", "preparing", "1 timeline")
        for number, page in enumerate(PAGES, 1):
            if page not in said and not everywhere:
                continue
            await pilot.press(str(number))
            await until(pilot, lambda page=page: app.screen.query_one(Tabs).active == page)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            await until_seen(pilot, "✗ users", *([said[page]] if page in said else []))
        await pilot.press("escape")
        await until_seen(pilot, "✗ users", "· orders")


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_a_verdict_s_document(database: Database, project: Project, document: str) -> None:
    damage(project, "UPDATE verdicts SET document = ?", document)
    said = {page: f"{page} cannot be read: it is damaged" for page in ("proof", "hops")}
    await look_at(StoreFeed(project, database, RUN), said, everywhere=document is DOCUMENTS[0])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe\x00 no text\n\xff\n",
        b'{"transcript": 1}\n7\n',
        b'{"transcript": 1}\n{"origin": "agent", "role": "a", "content": 7, "at": 1}\n',
        b'{"transcript": 1}\n{"origin": "agent", "role": "a", "content": ["x", 1], "at": 1}\n',
        b'{"transcript": 1}\n{"origin": "agent", "role": "a", "content": [{"type": "text", "text": "x"}], "at": "y"}\n',
    ],
)
async def test_a_transcript(database: Database, project: Project, data: bytes) -> None:
    path = project.state / "transcripts" / RUN / "users.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    feed = StoreFeed(project, database, RUN)
    await look_at(feed, {"conversation": "conversation cannot be read:"}, everywhere=data.startswith(b"\xff"))


async def test_a_record(database: Database, project: Project) -> None:
    folder = project.state / "runs" / RUN / "users"
    for path in (project.state / "keys" / PUBLIC_NAME, folder / "record.json"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"\xff\x00 nothing of the kind")
    await look_at(StoreFeed(project, database, RUN), {"record": "record cannot be read:"})


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET data = '{' WHERE ticket = 'users'",
        pytest.param("UPDATE events SET data = '[1]' WHERE ticket = 'users'", marks=RARE),
        pytest.param("UPDATE events SET at = 'noon' WHERE ticket = 'users'", marks=RARE),
        "UPDATE events SET at = -1e300, data = '{\"state\": {\"a\": 1}}' WHERE ticket = 'users'",
        "UPDATE agents SET iterations = 'many', cost_usd = 'dear', started_at = 'long ago' WHERE ticket = 'users'",
        pytest.param("UPDATE agents SET state = 'dreaming', limits = '7' WHERE ticket = 'users'", marks=RARE),
        pytest.param("UPDATE agents SET limits = '{' WHERE ticket = 'users'", marks=RARE),
        "UPDATE agents SET title = x'00ff', reason = x'ff' WHERE ticket = 'users'",
        "UPDATE runs SET settings = '{'",
        pytest.param("UPDATE runs SET limits = '[]', settings = '7'", marks=RARE),
        pytest.param("UPDATE runs SET started_at = 'long ago'", marks=RARE),
    ],
)
async def test_a_row_under_who_looks_at_it(database: Database, project: Project, statement: str) -> None:
    app = SpurlineApp(StoreFeed(project, database, RUN))
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await until_seen(pilot, "✗ users")
        rows(app).point("users")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, AgentScreen))
        damage(project, statement)
        # So that the rows are read anew.
        damage(project, "UPDATE runs SET revision = revision + 1")
        for number in range(1, len(PAGES) + 1):
            await pilot.press(str(number))
            await app.look()
            await pilot.pause(0.1)
        await pilot.press("escape", "v", "v", "v", "s", "t", "y", "s", "v")
        for _ in range(3):
            await app.look()
            await pilot.pause(0.1)
        assert app.is_running
        assert any(words in seen(app) for words in ("t  interrupted ", " replay ", "damaged, or not known here"))


class Broken(MemoryFeed):
    """One that fails as no feed should."""

    on: frozenset[str] = frozenset()

    def _fail(self, what: str) -> None:
        if what in self.on:
            raise KeyError(what)

    async def detail(self, ticket: str, page: str) -> Detail:
        self._fail("detail")
        return await super().detail(ticket, page)

    async def links(self, ticket: str) -> Links:
        self._fail("links")
        return await super().links(ticket)


def broken() -> Broken:
    known = fleet_feed(state="running")
    return Broken(known.run, known.agents, details={"failed-00": detailed("failed-00")})


async def test_pages_and_ways_out_fail_each_in_a_line_of_its_own() -> None:
    feed = broken()
    async with driven(feed) as (app, pilot):
        rows(app).point("failed-00")
        await pilot.press("enter")
        await until_seen(pilot, "spurline/run/failed-00")
        feed.on = frozenset({"detail", "links"})
        await pilot.press("4")
        await until_seen(pilot, "proof cannot be read: damaged, or not known here: KeyError('detail')")
        await pilot.press("y")
        await until_seen(pilot, "not done", "KeyError('links')")
        feed.on = frozenset()
        await until_seen(pilot, "56 hops prove")


async def test_what_was_read_and_cannot_be_drawn_is_said_in_its_place() -> None:
    feed = broken()
    # A copy: other tests have parts of it too.
    known = deepcopy(detailed("failed-00"))
    assert known.verdict is not None
    object.__setattr__(known.verdict.checks[1], "baseline_detail", None)
    object.__setattr__(known.verdict.checks[1].seen.exchanges[0], "response", 7)
    object.__setattr__(known, "logs", ((None, 1, 2),))
    async with driven(feed) as (app, pilot):
        feed.details = {"failed-00": known}
        rows(app).point("failed-00")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, AgentScreen))
        await pilot.press("4")
        await until_seen(pilot, "proof cannot be read: damaged, or not known here")
        await pilot.press("7")
        await until_seen(pilot, "logs cannot be read: damaged, or not known here")
        await pilot.press("5")
        await until_seen(pilot, "✗ orders → payments")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ExchangeScreen))
        await until_seen(pilot, "it cannot be shown: damaged, or not known here")
        await pilot.press("n", "escape", "1")
        await until_seen(pilot, "spurline/run/failed-00")
