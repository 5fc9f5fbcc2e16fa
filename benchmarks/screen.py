"""The screen on a busy run: a hundred agents, a thousand events a second, written by another process.

- *lag*: how much later than asked a sleep of 10 ms ends on the screen's loop, beside that of a loop that has nothing to
  do, which is the machine's. In this process, without a terminal; all else is `spurline tui` itself on a terminal.
- *shown*: how long after an event was written the terminal was told of it, which core share and memory that takes.
- *paint*: from the start of the command until something stands on the terminal, and until agents do, in a run of 10,000
  tickets: on the clock, and what the process used of a core.
- *memory*: an hour's worth of events, as fast as they can be taken, live and in a replay.
- *beside*: what a run costs with the screen and without it, in turns: benchmarks/loop.py's, and its own CPU.

Budgets: no lag over 50 ms beyond the machine's, under a third of a core, memory flat, shown within 500 ms (p95), first
paint within 500 ms, the run within 2 %.

    python benchmarks/screen.py [--agents N] [--rate EVENTS] [--seconds S] [--rounds N] [--only NAME]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import psutil
from loop import CALLED, lap
from screen_events import Hour
from shop_copy import RESULTS
from terminal import COLUMNS, LINES, drawn

from harness.project import read_project
from harness.runtime.feed import StoreFeed
from harness.store.database import Database
from tui.app import SpurlineApp
from tui.feed import Feed
from tui.replay import SPEEDS
from tui.scrubber import Scrubber
from tui.terminal import spare_the_imported

SPURLINE: Final = Path(sys.executable).with_name("spurline")
WRITER: Final = Path(__file__).with_name("screen_events.py")
SIZE: Final = (COLUMNS, LINES)
RUN: Final = "20260101-000000-abcd"
SETTINGS: Final = "project: bench\nbaseline: {entry: web, services: {web: {command: [a]}}}\n"
LONG: Final = 10_000
WARM_UP_S: Final = 3.0
_MOMENT: Final = re.compile(rb"written at (\d{13})")


@contextmanager
def written(folder: Path, agents: int, rate: int) -> Iterator[Path]:
    """A project in whose store another process writes so many events a second (0: only the tickets)."""
    folder.mkdir(exist_ok=True)
    (folder / "spurline.yaml").write_text(SETTINGS)
    store = str(folder / ".spurline" / "spurline.db")
    argv = [sys.executable, str(WRITER), store, RUN, str(agents), str(rate)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            yield folder
        finally:
            writer.kill()


def lag(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    with written(folder, options.agents, options.rate):
        return asyncio.run(_lagging(folder, options.seconds))


async def _lagging(folder: Path, seconds: float) -> dict[str, float]:
    spare_the_imported()
    alone = await _lags(seconds / 2)
    async with Database(folder / ".spurline" / "spurline.db") as database:
        app = SpurlineApp(StoreFeed(read_project(folder), database, RUN))
        async with app.run_test(size=SIZE):
            await app.warm.wait()
            spare_the_imported()
            await asyncio.sleep(WARM_UP_S)
            lags = await _lags(seconds)
    return {
        "without_p99_ms": _share(alone, 0.99) * 1000,
        "without_max_ms": max(alone) * 1000,
        "p50_ms": _share(lags, 0.5) * 1000,
        "p99_ms": _share(lags, 0.99) * 1000,
        "max_ms": max(lags) * 1000,
        "over_50_ms": sum(one > 0.05 for one in lags),
        "of": len(lags),
    }


async def _lags(seconds: float) -> list[float]:
    lags: list[float] = []
    began = time.perf_counter()
    while (asked := time.perf_counter()) - began < seconds:
        await asyncio.sleep(0.01)
        lags.append(time.perf_counter() - asked - 0.01)
    return lags


def shown(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    delays: dict[bytes, float] = {}

    def heed(piece: bytes) -> None:
        for moment in _MOMENT.findall(piece):
            delays.setdefault(moment, time.time() - int(moment) / 1000)

    with written(folder, options.agents, options.rate), drawn([SPURLINE, "-C", folder, "tui"]) as terminal:
        terminal.until("ticket-0001")
        time.sleep(WARM_UP_S)
        terminal.heed(heed)
        began, spent, memory = time.perf_counter(), terminal.cpu_s(), terminal.memory_mib()
        time.sleep(options.seconds)
        took = time.perf_counter() - began
        late = list(delays.values())
        return {
            "events_seen": len(late),
            "p50_ms": _share(late, 0.5) * 1000,
            "p95_ms": _share(late, 0.95) * 1000,
            "max_ms": max(late) * 1000,
            "core_share": (terminal.cpu_s() - spent) / took,
            "memory_mib": terminal.memory_mib(),
            "grown_mib": terminal.memory_mib() - memory,
        }


def paint(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    found = []
    with written(folder, LONG, 0):
        for _ in range(2 * options.rounds):
            with drawn([SPURLINE, "-C", folder, "tui"]) as terminal:
                found.append((*terminal.until("reading the run|ticket-0001"), *terminal.until("ticket-0001")))
    names = ("first_s", "first_cpu_s", "agents_s", "agents_cpu_s")
    return {"tickets": LONG, **{name: statistics.median(row[at] for row in found) for at, name in enumerate(names)}}


def memory(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    return asyncio.run(_remembered(options))


async def _remembered(options: argparse.Namespace) -> dict[str, float]:
    hour = Hour(options.agents, options.rate)
    app, me = SpurlineApp(cast(Feed, hour)), psutil.Process()
    marks: list[float] = []
    async with app.run_test(size=SIZE):
        while not hour.over:
            await app.look()
            await asyncio.sleep(0)
            if hour.told * 10 >= hour.count * (len(marks) + 1):
                marks.append(me.memory_info().rss / 2**20)
        live = {"events": hour.told, "after_a_tenth_mib": marks[0], "at_the_end_mib": marks[-1]}
        await app.action_replay()
        loaded, lags = me.memory_info().rss / 2**20, list[float]()
        app.action_speed(len(SPEEDS))
        while app.view is None or "▶" not in str(app.screen.query_one(Scrubber).render()):
            await app.look()
        while "▶" in str(app.screen.query_one(Scrubber).render()):
            began = time.perf_counter()
            await app.look()
            lags.append(time.perf_counter() - began)
            await asyncio.sleep(0)
    played = {"replay_loaded_mib": loaded, "replay_ended_mib": me.memory_info().rss / 2**20}
    return {**live, **played, "replay_look_p99_ms": _share(lags, 0.99) * 1000}


def beside(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    taken: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
    asked = argparse.Namespace(tickets=200, calls=4, agents=options.agents)
    for number in range(options.rounds):
        for name, laps in taken.items():
            own = folder / f"{name}-{number}"
            own.mkdir(parents=True)
            (own / "spurline.yaml").write_text(SETTINGS)
            (own / ".spurline").symlink_to("own")
            laps.append(asyncio.run(_raced(own, asked, watched=name == "with")))
    cpu = {name: statistics.median(one["work_cpu_s"] for one in laps) for name, laps in taken.items()}
    span = {name: statistics.median(one["makespan_s"] for one in laps) for name, laps in taken.items()}
    pairs = list(zip(taken["with"], taken["without"], strict=True))
    return {
        **{f"cpu_{name}_s": value for name, value in cpu.items()},
        **{f"makespan_{name}_s": value for name, value in span.items()},
        "cpu_ratio": statistics.median(one["work_cpu_s"] / other["work_cpu_s"] for one, other in pairs),
        "makespan_ratio": statistics.median(one["makespan_s"] / other["makespan_s"] for one, other in pairs),
    }


async def _raced(own: Path, asked: argparse.Namespace, *, watched: bool) -> dict[str, Any]:
    racing = asyncio.create_task(lap(CALLED[0], sys.executable, own, asked))
    if watched:
        await asyncio.to_thread(_appears, own / "own" / "spurline.db")
        with drawn([SPURLINE, "-C", own, "tui"]) as terminal:
            await asyncio.to_thread(terminal.until, "generating")
            return await racing
    return await racing


def _appears(file: Path) -> None:
    while not file.exists():
        time.sleep(0.05)
    # Its run is in it a moment later.
    time.sleep(0.5)


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


MEASURES: Final = {"lag": lag, "shown": shown, "paint": paint, "memory": memory, "beside": beside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=MEASURES, action="append")
    given = parser.parse_args()
    kept = RESULTS / "screen.json"
    result: dict[str, Any] = json.loads(kept.read_text()) if given.only and kept.exists() else {}
    for name in given.only or MEASURES:
        with tempfile.TemporaryDirectory(prefix="spurline-bench-") as folder:
            before = os.getloadavg()[0]
            found = MEASURES[name](Path(folder) / "project", given)
        asked = {"agents": given.agents, "rate": given.rate, "load": round(before, 1)}
        label = name if (given.agents, given.rate) == (100, 1000) else f"{name}_{given.agents}_{given.rate}"
        result[label] = {**asked, **{key: round(value, 3) for key, value in found.items()}}
        print(label, json.dumps(result[label]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    kept.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
