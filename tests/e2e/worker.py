"""A run that a process works on, as the store knows one: nothing in it is real but its claim and what it says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.e2e.conftest import environment
from tests.processes import end

SETTINGS: Final = "project: shop\nbaseline: {entry: web, services: {web: {command: [a]}}}\n"
RUN: Final = "20260101-000000-abcd"
# Something happens four times a second until it is killed.
_WORKER: Final = """
import asyncio, json, sys, time
from pathlib import Path
from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.journal import StoreJournal
from harness.store.runs import Runs
from harness.store.tables import RunRow
from tasks.ticket import Ticket

async def main(place, run):
    async with Database(Path(place)) as database:
        row = RunRow(id=run, project="shop", base="0" * 40, state="running", settings_digest="", spurline="0",
                     settings=json.dumps({"limits": {"agents": 2}}), tickets=4, started_at=time.time())
        names = ("users", "orders", "points", "mail")
        await Runs(database).begin(row, [Ticket(id=one, title=f"Mend {one}") for one in names])
        claims = Claims(database, run)
        await claims.begin()
        journal = StoreJournal(database, run)
        for ticket in ("users", "orders"):
            await journal.move(ticket, "preparing")
            await journal.move(ticket, "generating", data={"iterations": 1})
        await journal.move("points", "preparing")
        await journal.move("points", "needs_human", "which currency is meant?")
        print("ready", flush=True)
        for number in range(10_000):
            journal.emit("agent.activity", "users", {"doing": f"step {number}"})
            await asyncio.sleep(0.25)

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def at_work(root: Path) -> Iterator[subprocess.Popen[str]]:
    """The process, which works on the only run of the project at `root`."""
    (root / ".spurline").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(root / ".spurline" / "spurline.db"), RUN],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            end(process)
