"""The alarm: raised once by a reason that holds everything, and taken back when it holds no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from harness.engine import alarm
from harness.engine.alarm import AFTER_S, AGAIN_S, Alarm
from harness.store.checkpoints import open_checkpoints
from harness.store.database import Database
from harness.store.runs import Runs
from tests.unit.floor import Floor
from tests.unit.memory_ports import ticket

pytestmark = pytest.mark.usefixtures("no_task_left")


class Told:
    def __init__(self) -> None:
        self.now, self.heard = 100.0, list[tuple[str, Mapping[str, Any]]]()
        self.alarm = Alarm(lambda kind, data: self.heard.append((kind, data)), clock=lambda: self.now)

    def after(self, seconds: float, reason: str | None) -> list[tuple[str, Mapping[str, Any]]]:
        self.now += seconds
        self.heard.clear()
        self.alarm.heard(reason, 7)
        return list(self.heard)


def test_a_reason_is_told_when_it_has_held_for_a_while_again_later_and_when_it_is_over() -> None:
    told, held = Told(), ("fleet.held", {"by": "tickets", "reason": "paused", "tickets": 7})
    assert told.after(0, "paused") == []
    assert told.after(AFTER_S - 1, "paused") == []
    assert told.after(1, "paused") == [held]
    assert told.after(1, "paused") == []
    assert told.after(AGAIN_S - 1, "paused") == [held]
    assert told.after(5, None) == [("fleet.free", {"by": "tickets", "seconds": AFTER_S + AGAIN_S + 5})]
    assert told.after(AFTER_S, None) == []


def test_what_held_for_a_moment_is_not_told_and_another_reason_begins_anew() -> None:
    told = Told()
    assert told.after(0, "paused") == []
    assert told.after(AFTER_S - 1, "depends on 'a'") == []
    assert told.after(AFTER_S - 1, None) == []
    assert told.after(AFTER_S, "paused") == []


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_fleet_that_is_held_raises_the_alarm_and_takes_it_back(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(alarm, "AFTER_S", 0.0)
    floors = [Floor(database, [ticket("a"), ticket("b", depends=("a",))]) for _ in range(workers)]
    for floor in floors[1:]:
        floor.world = floors[0].world

    def told(floor: Floor) -> list[tuple[str, Any]]:
        fleet = [event for event in floor.told if event.kind.startswith("fleet.")]
        return [(event.kind, event.data.get("reason")) for event in fleet]

    async with AsyncExitStack() as stack:
        saver = await stack.enter_async_context(open_checkpoints(tmp_path / "checkpoints.db"))
        supervisors = [await floors[0].begin(saver=saver)]
        supervisors += [await floor.joined(saver=saver, leads=False) for floor in floors[1:]]
        await Runs(database).wish("r1", "paused")
        async with asyncio.TaskGroup() as group, asyncio.timeout(30):
            for floor, supervisor in zip(floors, supervisors, strict=True):
                group.create_task(supervisor.work(floor.tickets))
            while not all(told(floor) for floor in floors):  # noqa: ASYNC110 - it is the supervisors that look
                await asyncio.sleep(0.02)
            await Runs(database).wish("r1", "")
    assert all(told(floor)[:2] == [("fleet.held", "paused by the user"), ("fleet.free", None)] for floor in floors)
