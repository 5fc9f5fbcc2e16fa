"""The store's database goes away, is held, or is full: what was noted is kept, what is to be noted is noted once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text
from sqlmodel import Session, col, select

from harness.store.checkpoints import open_checkpoints
from harness.store.database import Database, look
from harness.store.documents import Messages
from harness.store.outage import Outage
from harness.store.tables import EventRow
from tasks.errors import StoreError, UsageError
from tests.postgres import Server, programs
from tests.processes import GRACE_S
from tests.wire import Cut, wire_to


def note(database: Database, name: str) -> Future[None]:
    def write(session: Session) -> None:
        session.add(EventRow(run="r", kind=name, at=0.0, data="{}"))

    return database.post(write)


async def noted(database: Database) -> list[str]:
    query = select(EventRow.kind).order_by(col(EventRow.seq))
    return list(await database.read(lambda session: session.exec(query).all()))


async def landed(*futures: Future[None]) -> None:
    await asyncio.gather(*map(asyncio.wrap_future, futures))


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_a_server_that_restarts_costs_nothing_but_time(postgres: Server, postgres_url: str, mode: str) -> None:
    async with Database(postgres_url) as database:
        names = [f"n{number}" for number in range(600)]
        before = [note(database, name) for name in names[:200]]
        await landed(before[0])
        await asyncio.to_thread(postgres.stop, mode)
        during = [note(database, name) for name in names[200:400]]
        reading = asyncio.create_task(noted(database))
        await asyncio.to_thread(postgres.start)
        after = [note(database, name) for name in names[400:]]
        await landed(*before, *during, *after)
        assert set(await reading) <= set(names)
        assert await noted(database) == names


@pytest.mark.parametrize("cut", ["before", "after", "late"])
async def test_a_commit_whose_answer_is_lost_happens_once(postgres: Server, postgres_url: str, cut: Cut) -> None:
    with wire_to(postgres.port) as wire:
        url = postgres_url.replace(f":{postgres.port}/", f":{wire.port}/")
        async with Database(url) as database:
            await landed(note(database, "first"))
            wire.cut = cut
            second, first = note(database, "second"), database.post(lambda session: session.get_one(EventRow, 1).kind)
            await landed(second, note(database, "third"))
            assert first.result() == "first"
            assert wire.cuts == 1
            assert await noted(database) == ["first", "second", "third"]


async def test_who_is_gone_for_too_long_is_given_up_and_welcomed_back(postgres: Server, postgres_url: str) -> None:
    async with Database(postgres_url, patience_s=0.3) as database:
        await landed(note(database, "kept"))
        await asyncio.to_thread(postgres.stop)
        try:
            for _ in range(2):
                with pytest.raises(StoreError, match="test_") as caught:
                    await landed(note(database, "lost"))
                assert "is the database up" in caught.value.hint
            with pytest.raises(StoreError):
                await noted(database)
        finally:
            await asyncio.to_thread(postgres.start)
        await landed(note(database, "again"))
        assert await noted(database) == ["kept", "again"]


async def test_two_who_wait_for_each_other_both_get_through(postgres_url: str) -> None:
    async with Database(postgres_url) as one, Database(postgres_url) as other:
        await landed(note(one, "a"), note(one, "b"))
        both_hold_one = threading.Barrier(2)

        def taking(first: str, second: str) -> Callable[[Session], None]:
            met: list[bool] = []

            def write(session: Session) -> None:
                for name in (first, second):
                    row = session.exec(select(EventRow).where(EventRow.kind == name).with_for_update()).one()
                    row.data += first
                    session.add(row)
                    session.flush()
                    if not met:
                        met.append(True)
                        both_hold_one.wait(GRACE_S)

            return write

        await asyncio.gather(one.write(taking("a", "b")), other.write(taking("b", "a")))
        rows = await one.read(lambda session: session.exec(select(EventRow.data)).all())
        assert [Counter(row) for row in rows] == [Counter("{}ab")] * 2


async def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    async with Database(tmp_path / "spurline.db") as database, Database(tmp_path / "spurline.db") as other:
        held, free = threading.Event(), threading.Event()

        def hold(session: Session) -> None:
            session.connection()
            held.set()
            assert free.wait(GRACE_S)

        holding = other.post(hold)
        assert await asyncio.to_thread(held.wait, GRACE_S)
        waiting = note(database, "patient")
        await asyncio.sleep(0.2)
        assert not waiting.done()
        free.set()
        await landed(holding, waiting)
        assert await noted(database) == ["patient"]


async def test_a_full_disk_is_told_at_once_and_costs_nothing_that_was_noted(tmp_path: Path) -> None:
    async with Database(tmp_path / "spurline.db") as database:
        await landed(note(database, "before"))

        def limit(session: Session) -> None:
            pages = session.connection().execute(text("PRAGMA page_count")).scalar_one()
            session.connection().execute(text(f"PRAGMA max_page_count = {pages}"))

        def much(session: Session) -> None:
            session.add(EventRow(run="r", kind="much", at=0.0, data="x" * 100_000))

        await database.write(limit)
        held, free = threading.Event(), threading.Event()

        def hold(_: Session) -> bool:
            held.set()
            return free.wait(GRACE_S)

        holding = database.post(hold)
        assert await asyncio.to_thread(held.wait, GRACE_S)
        # One batch: what came together fails together, and nothing of it stays.
        batch = [note(database, "beside"), database.post(much), note(database, "behind")]
        free.set()
        assert await asyncio.wrap_future(holding)
        for future in batch:
            with pytest.raises(StoreError, match="full") as caught:
                await asyncio.wrap_future(future)
            assert "nothing that was noted before is lost" in caught.value.hint
        await database.write(lambda session: session.connection().execute(text("PRAGMA max_page_count = 100000")))
        await database.write(much)
        assert await noted(database) == ["before", "much"]


OPEN = """
import asyncio, sys
from pathlib import Path
from harness.store.checkpoints import open_checkpoints
from harness.store.database import Database
where = sys.argv[1]
place = where if "://" in where else Path(where)
print("ready", flush=True)
sys.stdin.readline()
async def main():
    async with Database(place) as database:
        await database.write(lambda session: None)
    async with open_checkpoints(place if "://" in where else Path(where + ".positions")):
        pass
asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_that_begin_together_migrate_once(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place: Path | str = tmp_path / "new" / "spurline.db"
    if kind == "postgres":
        server: Server = request.getfixturevalue("postgres")
        server.execute("CREATE DATABASE begun_together")
        place = server.url("begun_together")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=GRACE_S)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 3, "\n".join(said)
    assert look(place)[1] is not None


async def test_a_password_is_never_said(postgres: Server, caplog: pytest.LogCaptureFixture) -> None:
    secret = "s3cr3t-w0rd"
    places = [
        f"postgresql+psycopg://spurline:{secret}@127.0.0.1:1/nowhere",
        f"postgresql://spurline@127.0.0.1:1/nowhere?password={secret}",
        f"postgresql+psycopg://nobody-like-this:{secret}@127.0.0.1:{postgres.port}/postgres",
        f"postgresql+psycopg://spurline:{secret}@127.0.0.1:{postgres.port}/nowhere",
        f"mysql://spurline:{secret}@127.0.0.1/nowhere",
        f"postgresql+psycopg://spurline:{secret}@127.0.0.1:port/nowhere",
        f"postgresql+psycopg://spurline:{secret}/@127.0.0.1/nowhere",
    ]
    said = []
    for place in places:
        with pytest.raises((StoreError, UsageError)) as caught:
            Database(place)
        said += [str(caught.value), caught.value.hint, repr(caught.value)]
        with pytest.raises((StoreError, UsageError)) as caught:
            async with open_checkpoints(place):
                pass
        said += [str(caught.value), caught.value.hint]
    assert secret not in "\n".join([*said, caplog.text])
    assert all(said)


def test_an_extra_that_is_missing_is_named() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from harness.store.backend import backend_of\n"
        "try: backend_of('postgresql+psycopg://host/database')\n"
        "except Exception as error: print(error.code, error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=GRACE_S)
    assert done.stdout.startswith("usage install `spurline[postgres]`")


async def test_text_with_a_character_that_postgres_refuses(postgres_url: str) -> None:
    async with Database(postgres_url) as database:
        messages = Messages(database)
        assert await messages.text(await messages.keep("r", "t", "one\0two")) == "one\N{REPLACEMENT CHARACTER}two"


async def test_a_writer_leaves_no_mark(postgres_url: str) -> None:
    query = text("SELECT count(*) FROM writers")
    async with Database(postgres_url) as one:
        await landed(note(one, "x"))
        assert await one.read(lambda session: session.connection().execute(query).scalar()) == 1
    async with Database(postgres_url) as other:
        assert await other.read(lambda session: session.connection().execute(query).scalar()) == 0


async def test_what_is_read_is_of_one_moment(place: Path | str) -> None:
    async with Database(place) as database:
        await landed(note(database, "one"))

        def read(session: Session) -> tuple[int, int]:
            first = len(session.exec(select(EventRow.seq)).all())
            note(database, "two").result(GRACE_S)
            return first, len(session.exec(select(EventRow.seq)).all())

        assert await database.read(read) == (1, 1)
        assert await noted(database) == ["one", "two"]


def test_patience_begins_anew_once_it_answers() -> None:
    now = [100.0]
    outage = Outage(10.0, clock=lambda: now[0])
    assert outage.pause_s() is not None
    now[0] += 9.9
    assert outage.pause_s() is not None
    now[0] += 0.2
    assert outage.pause_s() is None
    assert outage.pause_s() is None
    outage.over()
    assert outage.pause_s() is not None


def test_no_server_outlives_its_tests(tmp_path: Path) -> None:
    if (found := programs()) is None:
        pytest.skip("no PostgreSQL is installed")
    code = (
        "import sys, time; from pathlib import Path; from tests.postgres import serve\n"
        "with serve(Path(sys.argv[1])) as server:\n"
        "    print(server._home, flush=True); time.sleep(600)"
    )
    root = Path(__file__).parents[2]
    started = subprocess.Popen(
        [sys.executable, "-c", code, str(found)], cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert started.stdout is not None
    home = Path(started.stdout.readline().strip())
    server = int((home / "data" / "postmaster.pid").read_text().split()[0])
    os.killpg(started.pid, signal.SIGKILL)
    started.wait(GRACE_S)
    started.stdout.close()
    deadline = threading.Event()
    for _ in range(int(GRACE_S * 10)):
        if not home.exists():
            break
        deadline.wait(0.1)
    assert not home.exists()
    assert not psutil.pid_exists(server) or psutil.Process(server).status() == psutil.STATUS_ZOMBIE
