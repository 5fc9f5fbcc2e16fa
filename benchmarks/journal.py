"""The event journal with 100 writers: events a second, how long a write takes, bytes a ticket. SQLite and PostgreSQL.

Each writer tells the story of one ticket after the other, as a ticket of four model calls has it: most events are only
told, and a move of its state is waited for. First as fast as it goes; then at the pace of a run of a hundred agents, at
which a write's time is measured. PostgreSQL is a server of our own on this machine, that syncs each commit to the disk;
SQLite, as we open it, syncs at checkpoints only.

    python benchmarks/journal.py [--writers N] [--tickets N] [--seconds N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from shop_copy import RESULTS, quiet
from sqlalchemy import text

from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.journal import StoreJournal
from harness.store.runs import Runs
from harness.store.tables import RunRow
from tasks.events import EventKind
from tasks.states import AgentState
from tasks.ticket import Ticket
from tests.postgres import programs, serve

RUN: Final = "r1"
TICKET_S: Final = 4.5
"""How long a ticket of four calls takes, at the pace of a run."""
CALL: Final = {
    "model": "claude-sonnet-5-5",
    "input_tokens": 812,
    "output_tokens": 143,
    "cache_read_tokens": 5120,
    "cache_write_tokens": 640,
    "cost_usd": 0.0087,
    "seconds": 1.0042,
    "stop_reason": "tool_use",
    "priced": True,
}
DURABLE: Final = "-c max_connections=60 -c shared_buffers=128MB"

Line = tuple[EventKind | AgentState, dict[str, Any]]


def story(ticket: str) -> Iterator[Line]:
    """What is said of one ticket; a state is moved to, all else is an event."""
    commit = ticket.encode().hex().ljust(40, "0")
    yield "preparing", {}
    yield "generating", {"iterations": 1, "branch": f"spurline/{RUN}/{ticket}", "sandbox": f"{ticket}-5b17e3"}
    for number in range(4):
        yield "agent.activity", {"doing": "thinking"}
        yield "model.call", CALL
        if number < 3:
            yield "agent.activity", {"doing": "reading services/pricing/pricing/prices.py"}
    yield "commit.made", {"commit": commit, "iteration": 1}
    yield "checking", {"commit": commit}
    yield "static.finished", {"passed": True}
    yield "instantiating", {}
    yield "agent.waited", {"for": "forks", "seconds": 0.412}
    yield "validating", {}
    yield "verdict", {"verdict": commit[:20], "conclusion": "verified", "reason": "9 checks pass, 2 hops proven"}
    yield "submitting", {}
    yield "verified", {"iterations": 1, "commit": commit, "verdict": commit[:20], "submission": f"branch {ticket}"}


STATES: Final = ("preparing", "generating", "checking", "instantiating", "validating", "submitting", "verified")
EVENTS: Final = sum(1 for _ in story("t"))


async def tell(journal: StoreJournal, ticket: str, pause_s: float, moves_ms: list[float]) -> None:
    """The story of one ticket; `pause_s` before each line, what moves took goes to `moves_ms`."""
    for what, data in story(ticket):
        if pause_s:
            await asyncio.sleep(pause_s)
        if what in STATES:
            began = time.perf_counter()
            await journal.move(ticket, what, "", data)
            moves_ms.append((time.perf_counter() - began) * 1000)
        else:
            journal.emit(what, ticket, data)  # type: ignore[arg-type]  # a state was moved to


async def told(database: Database, run: str, writers: int, tickets: int, pause_s: float) -> tuple[float, list[float]]:
    """Have all tickets told by so many writers; the seconds until the last word is stored, and what moves took."""
    names = [f"t{number}" for number in range(tickets)]
    row = RunRow(
        id=run,
        project="bench",
        base="b" * 40,
        state="running",
        settings_digest="",
        settings="{}",
        spurline="",
        tickets=tickets,
        started_at=time.time(),
    )
    await Runs(database).begin(row, [Ticket(id=name, title="A ticket of the benchmark") for name in names])
    claims = Claims(database, run)
    await claims.begin()
    await claims.take(names, tickets)
    journal, moves_ms, left = StoreJournal(database, run, claims=claims), list[float](), iter(names)

    async def write(number: int) -> None:
        if pause_s:
            await asyncio.sleep(TICKET_S * number / writers)
        for name in left:
            await tell(journal, name, pause_s, moves_ms)

    began = time.perf_counter()
    await asyncio.gather(*map(write, range(writers)))
    seconds = time.perf_counter() - began
    await claims.end()
    return seconds, moves_ms


async def measured(place: Path | str, writers: int, tickets: int, seconds: float) -> dict[str, Any]:
    async with Database(place) as database:
        empty = await size_bytes(database)
        cpu = time.process_time()
        took_s, _ = await told(database, RUN, writers, tickets, 0.0)
        cpu = time.process_time() - cpu
        grown = await size_bytes(database) - empty
        paced = max(1, round(seconds / TICKET_S)) * writers
        paced_s, moves_ms = await told(database, "r2", writers, paced, TICKET_S / EVENTS)
    centiles = statistics.quantiles(moves_ms, n=100)
    return {
        "events_per_s": tickets * EVENTS / took_s,
        "cpu_us_an_event": 1e6 * cpu / (tickets * EVENTS),
        "bytes_a_ticket": grown / tickets,
        "paced_events_per_s": paced * EVENTS / paced_s,
        "move_p50_ms": centiles[49],
        "move_p99_ms": centiles[98],
        "move_max_ms": max(moves_ms),
    }


async def size_bytes(database: Database) -> int:
    """What the tables, with their indexes, take."""
    if database.name.startswith("postgresql"):
        query = "SELECT pg_database_size(current_database())"
    else:
        query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    return int(await database.read(lambda session: session.connection().execute(text(query)).scalar_one()))


@contextmanager
def places(folder: Path) -> Iterator[dict[str, Path | str]]:
    """Where there is a store to measure."""
    sqlite = {"sqlite": folder / "spurline.db"}
    if (found := programs()) is None:
        print("no PostgreSQL is installed: left out")
        yield {**sqlite}
        return
    with serve(found, options=DURABLE) as server:
        server.execute("CREATE DATABASE bench")
        yield {**sqlite, "postgresql": server.url("bench")}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=100)
    parser.add_argument("--tickets", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15.0, help="at the pace of a run, about")
    options = parser.parse_args()
    result: dict[str, Any] = {**vars(options), "events_a_ticket": EVENTS, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="spurline-bench-") as made, places(Path(made)) as found:
        result["load_before"] = await quiet()
        for name, place in found.items():
            result[name] = await measured(place, options.writers, options.tickets, options.seconds)
            print(f"{name:10} " + "  ".join(f"{field} {value:.1f}" for field, value in result[name].items()))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "journal.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
