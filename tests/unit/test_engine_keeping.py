"""Which sandboxes outlive their ticket: what was wished stands in the store, and is asked for as they are let go of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphs.ports import Verdict, Work
from harness.engine.keeping import Keeping, kept_s
from harness.store.database import Database
from harness.store.journal import StoreJournal
from harness.store.runs import Runs
from harness.store.tables import AgentRow
from tasks.states import AgentState
from tests.unit.floor import run_row
from tests.unit.memory_ports import ticket

pytestmark = pytest.mark.usefixtures("no_task_left")
NOW = 1_000_000.0
WORK = Work("r1", ticket("t1"), "b", "c" * 40, "/w", "s")


def agent(state: AgentState, until: float | None = None) -> AgentRow:
    return AgentRow(run="r1", ticket="t1", place=0, title="T", state=state, keep_until=until)


def test_a_wish_holds_until_its_time_however_the_ticket_ended() -> None:
    for state in ("verified", "failed", "error", "cancelled", "paused"):
        assert kept_s(agent(state, NOW + 90), NOW) == 90
        assert kept_s(agent(state, NOW - 1), NOW) == 0
        assert kept_s(agent(state), NOW) == 0


def test_what_is_verified_is_kept_where_the_settings_say_so_and_nothing_else() -> None:
    assert kept_s(agent("verified"), NOW, verified_s=30) == 30
    # Torn down before it is told how it ended.
    assert kept_s(agent("submitting"), NOW, verified_s=30) == 30
    assert kept_s(agent("failed"), NOW, verified_s=30) == 0
    assert kept_s(agent("verified", NOW + 90), NOW, verified_s=30) == 90
    assert kept_s(agent("verified", NOW + 9), NOW, verified_s=30) == 30


class Sandboxes:
    """A validator whose sandboxes are let go of."""

    def __init__(self) -> None:
        self.released: list[float] = []

    async def static(self, work: Work, commit: str) -> str | None:
        return commit

    async def instantiate(self, work: Work, commit: str) -> Verdict | None:
        return None

    async def validate(self, work: Work, commit: str, iteration: int) -> Verdict:
        raise NotImplementedError

    async def release(self, work: Work, *, keep_s: float = 0.0) -> None:
        self.released.append(round(keep_s, -1))


async def test_the_store_is_asked_as_a_sandbox_is_let_go_of(database: Database) -> None:
    runs, inner, left = Runs(database), Sandboxes(), list[Work]()
    await runs.begin(run_row(1), [ticket("t1")])
    keeping = Keeping(inner, lambda name: runs.agent("r1", name), leave=left.append)
    assert await keeping.static(WORK, "c") == "c"
    await keeping.release(WORK)
    (row,) = await runs.keep("r1", ["t1", "t1"], 4_000_000_000.0)
    await keeping.release(WORK)
    assert row.keep_until == 4_000_000_000.0
    assert inner.released[0] == 0
    assert inner.released[1] > 1_000_000_000
    # What is left of an earlier attempt is nobody's wish.
    await keeping.release(replace(WORK, attempt=2))
    assert inner.released[2] == 0
    assert left == [WORK]
    await StoreJournal(database, "r1").move("t1", "error")
    await runs.retry("r1", ["t1"])
    assert (await runs.agent("r1", "t1")).keep_until is None
