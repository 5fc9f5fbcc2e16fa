"""The screen on a busy run: a hundred agents, a thousand events a second, written by another process.

The screen runs in this process without a terminal, and draws all that it would draw. Measured are the lag of its loop
(how much later than asked a sleep of 10 ms ends), its share of a core, its memory, and how old the newest event is when
the screen has it; and, first, the lag of a loop that has nothing to do, which is the machine's. Budget: no lag over
50 ms beyond that, under a third of a core.

    python benchmarks/screen.py [--agents N] [--rate EVENTS] [--seconds S]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil

from harness.runtime.feed import StoreFeed
from harness.settings import read_project
from harness.store.database import Database
from tui.app import SpurlineApp
from tui.terminal import spare_the_imported

RESULTS: Final = Path(__file__).with_name("results")
SIZE: Final = (132, 40)
RUN: Final = "20260101-000000-abcd"
SETTINGS: Final = "project: bench\nbaseline: {entry: web, services: {web: {command: [a]}}}\n"
WARM_UP_S: Final = 3.0
# Batches of a fiftieth of a second, as many agents write them.
WRITER: Final = """
import asyncio, json, sys, time
from pathlib import Path
from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.journal import StoreJournal
from harness.store.runs import Runs
from harness.store.tables import RunRow
from tasks.ticket import Ticket

async def main(place, run, agents, rate):
    async with Database(Path(place)) as database:
        names = [f"ticket-{number:04d}" for number in range(int(agents))]
        row = RunRow(id=run, project="bench", base="0" * 40, state="running", settings_digest="", spurline="0",
                     settings="{}", tickets=len(names), started_at=time.time())
        await Runs(database).begin(row, [Ticket(id=name, title=f"Mend {name}") for name in names])
        await Claims(database, run).begin()
        journal = StoreJournal(database, run)
        for name in names:
            await journal.move(name, "preparing")
            await journal.move(name, "generating", data={"iterations": 1})
        print("ready", flush=True)
        began, number = time.monotonic(), 0
        while True:
            while number < (time.monotonic() - began) * int(rate):
                name = names[number % len(names)]
                if number % 50 == 0:
                    journal.emit("model.call", name, {"cost_usd": 0.001})
                else:
                    journal.emit("agent.activity", name, {"doing": f"bash: step {number} of many, as commands are"})
                number += 1
            await asyncio.sleep(0.02)

asyncio.run(main(*sys.argv[1:]))
"""


async def measured(folder: Path, seconds: float) -> dict[str, float]:
    """Watch the run for so long."""
    spare_the_imported()
    alone = await _lags(seconds / 2)
    async with Database(folder / ".spurline" / "spurline.db") as database:
        app = SpurlineApp(StoreFeed(read_project(folder), database, RUN))
        lags: list[float] = []
        delays: list[float] = []
        async with app.run_test(size=SIZE):
            await asyncio.sleep(WARM_UP_S)
            me = psutil.Process()
            spent, began, memory = _spent(me), time.perf_counter(), me.memory_info().rss
            last = 0.0
            while time.perf_counter() - began < seconds:
                asked = time.perf_counter()
                await asyncio.sleep(0.01)
                lags.append(time.perf_counter() - asked - 0.01)
                newest = max(agent.heard for agent in app.view.fleet.agents.values()) if app.view else 0.0
                if newest > last:
                    last = newest
                    delays.append(time.time() - newest)
            took = time.perf_counter() - began
            return {
                "lag_without_p99_ms": _share(alone, 0.99) * 1000,
                "lag_without_max_ms": max(alone) * 1000,
                "lag_p50_ms": _share(lags, 0.5) * 1000,
                "lag_p99_ms": _share(lags, 0.99) * 1000,
                "lag_max_ms": max(lags) * 1000,
                "core_share": (_spent(me) - spent) / took,
                "grown_mib": (me.memory_info().rss - memory) / 2**20,
                "newest_event_age_p95_ms": _share(delays, 0.95) * 1000,
            }


async def _lags(seconds: float) -> list[float]:
    """What the machine does to a loop that has nothing else to do, with the run beside it."""
    lags: list[float] = []
    began = time.perf_counter()
    while (asked := time.perf_counter()) - began < seconds:
        await asyncio.sleep(0.01)
        lags.append(time.perf_counter() - asked - 0.01)
    return lags


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spurline.yaml").write_text(SETTINGS)
        store = folder / ".spurline" / "spurline.db"
        argv = [sys.executable, "-c", WRITER, str(store), RUN, str(given.agents), str(given.rate)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
            try:
                assert writer.stdout is not None
                writer.stdout.readline()
                found = asyncio.run(measured(folder, given.seconds))
            finally:
                writer.kill()
    result: dict[str, Any] = {
        **vars(given),
        "load": round(os.getloadavg()[0], 1),
        **{name: round(value, 2) for name, value in found.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "screen.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
