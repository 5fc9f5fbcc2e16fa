"""Events for benchmarks/screen.py: written into a store by this script, in a process of its own, or made up as they are
asked for.

    python benchmarks/screen_events.py STORE RUN AGENTS EVENTS_PER_SECOND
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.journal import StoreJournal
from harness.store.runs import Runs
from harness.store.tables import RunRow
from tasks.events import Event
from tasks.ticket import Ticket
from tui.feed import Agent, News, Run, Snapshot

_MARKED_EVERY_S = 0.37
"""Not in step with a screen that looks four times a second."""
_AT_ONCE = 20_000
_BEGUN = 100
_LEFT_OUT = 12
"""A story of more than 300,000 events is told with less of them (harness/runtime/feed.py)."""


def names(agents: int) -> list[str]:
    return [f"ticket-{number:04d}" for number in range(agents)]


async def write(place: Path, run: str, agents: int, rate: int) -> None:
    """Begin the run and write until killed: batches of a fiftieth of a second, as many agents write them. The first
    ticket only says when it was written."""
    async with Database(place) as database:
        all_ = names(agents)
        row = RunRow(
            id=run,
            project="bench",
            base="0" * 40,
            state="running",
            settings_digest="",
            spurline="0",
            settings="{}",
            tickets=len(all_),
            started_at=time.time(),
        )
        await Runs(database).begin(row, [Ticket(id=name, title=f"Mend {name}") for name in all_])
        await Claims(database, run).begin()
        journal = StoreJournal(database, run)
        at_work = all_ if rate else all_[:_BEGUN]
        for name in at_work:
            await journal.move(name, "preparing")
            await journal.move(name, "generating", data={"iterations": 1})
        print("ready", flush=True)
        first, *others = at_work
        began, number, marked = time.monotonic(), 0, 0.0
        while True:
            passed = time.monotonic() - began
            if rate and passed - marked > _MARKED_EVERY_S:
                marked = passed
                journal.emit("agent.activity", first, {"doing": f"written at {time.time() * 1000:.0f}"})
            while number < passed * rate:
                name = others[number % len(others)]
                if number % 50 == 0:
                    journal.emit("model.call", name, {"cost_usd": 0.001})
                else:
                    journal.emit("agent.activity", name, {"doing": f"bash: step {number} of many, as commands are"})
                number += 1
            await asyncio.sleep(0.02)


class Hour:
    """A run of an hour of which every question is answered with the next twenty thousand events. As much
    of tui.feed.Feed as is asked while nothing is done."""

    def __init__(self, agents: int, rate: int) -> None:
        self._names, self._rate = names(agents), rate
        self.count, self.told = rate * 3600, 0
        self._began = time.time() - 3600

    @property
    def over(self) -> bool:
        return self.told >= self.count

    @property
    def _run(self) -> Run:
        return Run("hour", "bench", "running", self._began, worked_on=True)

    def _events(self, first: int, last: int, step: int = 1) -> tuple[Event, ...]:
        all_, rate, began = self._names, self._rate, self._began
        return tuple(
            Event(
                "model.call" if number % 50 == 0 else "agent.activity",
                "hour",
                all_[number % len(all_)],
                {"cost_usd": 0.001} if number % 50 == 0 else {"doing": f"bash: step {number} of many"},
                began + number / rate,
            )
            for number in range(first, last, step)
        )

    async def snapshot(self) -> Snapshot:
        agents = (
            Agent(name, state="generating", began=self._began, since=self._began, heard=self._began)
            for name in self._names
        )
        return Snapshot(self._run, tuple(agents))

    async def news(self) -> News:
        first, self.told = self.told, min(self.count, self.told + _AT_ONCE)
        return News(self._run, self._events(first, self.told))

    async def services(self) -> Mapping[str, Sequence[str]]:
        return {}

    async def story(self) -> tuple[Event, ...]:
        return self._events(0, self.count, _LEFT_OUT)


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
