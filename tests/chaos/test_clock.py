"""The clock jumps, forwards and back, under several workers of one run: no write of an earlier holder is ever taken."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from graphs.ports import LeaseLost
from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.journal import StoreJournal
from harness.store.runs import Runs
from harness.store.tables import RunRow
from tasks.states import is_final
from tasks.ticket import Ticket

TICKETS: Final = ("t0", "t1", "t2")
WORKERS: Final = 3
DAY_S: Final = 86_400.0

Act = tuple[str, int, int]
"""What, by which worker, with which ticket (or how far the clock jumps, in hours)."""

ACTS: Final = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "renew", "give back", "work", "work", "end", "jump"]),
        st.integers(0, WORKERS - 1),
        st.integers(-30, 30),
    ),
    min_size=5,
    max_size=40,
)


@dataclass
class Worker:
    claims: Claims
    journal: StoreJournal


@dataclass
class Scene:
    """One run, its workers, their common clock, and who took each ticket last."""

    database: Database
    now: float = 1e9
    workers: list[Worker] = field(default_factory=list)
    holders: dict[str, Worker | None] = field(default_factory=dict)

    async def begin(self) -> None:
        row = RunRow(
            id="r",
            project="p",
            base="a" * 40,
            state="running",
            settings_digest="d",
            settings="{}",
            spurline="0",
            tickets=len(TICKETS),
            started_at=1.0,
        )
        await Runs(self.database).begin(row, [Ticket(id=name, title=name) for name in TICKETS])
        for number in range(WORKERS):
            claims = Claims(self.database, "r", leads=number == 0, clock=lambda _: self.now)
            await claims.begin()
            self.workers.append(Worker(claims, StoreJournal(self.database, "r", claims=claims)))

    async def act(self, what: str, by: int, number: int) -> None:
        worker, ticket = self.workers[by], TICKETS[number % len(TICKETS)]
        match what:
            case "take":
                for taken in await worker.claims.take(TICKETS, 1):
                    self.holders[taken] = worker
            case "renew":
                for lost in await worker.claims.renew({}):
                    assert self.holders.get(lost) is not worker
            case "give back" if ticket in worker.claims.held:
                await worker.claims.give_back(ticket, worked_s=1.0)
                if self.holders.get(ticket) is worker:
                    self.holders[ticket] = None
            case "work" | "end" if ticket in worker.claims.held:
                await self._write(worker, ticket, "failed" if what == "end" else "preparing")
            case "jump":
                self.now += number / 30 * DAY_S

    async def _write(self, worker: Worker, ticket: str, state: Any) -> None:
        try:
            await worker.journal.move(ticket, state)
        except LeaseLost:
            assert self.holders.get(ticket) is not worker
            worker.claims.forget(ticket)
        else:
            assert self.holders.get(ticket) is worker
            if is_final(state):
                worker.claims.forget(ticket)

    async def wind_up(self) -> None:
        """All leave; whoever comes next ends what has not ended."""
        for worker in self.workers:
            await worker.claims.end()
        claims = Claims(self.database, "r", clock=lambda _: self.now)
        await claims.begin()
        journal = StoreJournal(self.database, "r", claims=claims)
        for ticket in await claims.take(TICKETS, len(TICKETS)):
            await journal.move(ticket, "failed")
        await claims.end()
        events = await Runs(self.database).events("r")
        ends = Counter(event.ticket for event in events if is_final(str(event.data.get("state"))))
        assert ends == dict.fromkeys(TICKETS, 1)


@contextlib.contextmanager
def fresh(path: Path) -> Iterator[Path]:
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    yield path


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(acts=ACTS)
@example(acts=[("take", 0, 0), ("jump", 0, 30), ("take", 1, 0), ("give back", 1, 0), ("work", 0, 0)])
@example(acts=[("take", 0, 0), ("jump", 0, 30), ("take", 1, 0), ("jump", 0, -30), ("renew", 0, 0), ("end", 1, 0)])
def test_no_jump_of_the_clock_lets_two_work_on_one_ticket(tmp_path: Path, acts: list[Act]) -> None:
    async def play() -> None:
        async with Database(path) as database:
            scene = Scene(database)
            await scene.begin()
            for act in acts:
                await scene.act(*act)
            await scene.wind_up()

    with fresh(tmp_path / "spurline.db") as path:
        asyncio.run(play())
