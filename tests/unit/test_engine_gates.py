"""Gates: never more than the limit inside, nobody lost, the urgent first, the old in the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine.gates import AGED_S, Gate


async def hold(gate: Gate, ticket: str, inside: list[str], leave: asyncio.Event) -> None:
    async with gate.place(ticket):
        inside.append(ticket)
        await leave.wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_urgent_come_first() -> None:
    urgency = {"a": 0.0, "b": 2.0, "c": 1.0}
    gate = Gate("checks", 1, urgency=lambda ticket: urgency.get(ticket, 0.0))
    inside: list[str] = []
    first, rest = asyncio.Event(), asyncio.Event()
    rest.set()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(gate, "first", inside, first))
        await settle()
        for ticket in urgency:
            group.create_task(hold(gate, ticket, inside, rest))
        await settle()
        assert (gate.inside, gate.waiting) == (1, 3)
        first.set()
    assert inside == ["first", "b", "c", "a"]


async def test_time_stands_still_for_who_waits_only() -> None:
    waiting: list[str] = []

    @contextlib.contextmanager
    def standing(ticket: str) -> Iterator[None]:
        waiting.append(ticket)
        yield
        waiting.remove(ticket)

    gate = Gate("checks", 1, standing=standing)
    inside: list[str] = []
    first, second = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(gate, "first", inside, first))
        await settle()
        assert waiting == []
        group.create_task(hold(gate, "second", inside, second))
        await settle()
        assert waiting == ["second"]
        first.set()
        await settle()
        assert (inside, waiting) == (["first", "second"], [])
        second.set()


async def test_no_one_starves_behind_the_urgent() -> None:
    now = 0.0
    gate = Gate("checks", 1, urgency=lambda ticket: 3.0 if ticket == "urgent" else 0.0, clock=lambda: now)
    inside: list[str] = []
    first, rest = asyncio.Event(), asyncio.Event()
    rest.set()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(gate, "first", inside, first))
        await settle()
        group.create_task(hold(gate, "old", inside, rest))
        await settle()
        now = 4 * AGED_S
        group.create_task(hold(gate, "urgent", inside, rest))
        await settle()
        first.set()
    assert inside == ["first", "old", "urgent"]


async def test_a_limit_that_grows_lets_in_and_one_that_shrinks_sends_nobody_away() -> None:
    gate = Gate("forks", 1)
    inside: list[str] = []
    leave = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for ticket in ("a", "b", "c", "d"):
            group.create_task(hold(gate, ticket, inside, leave))
        await settle()
        assert inside == ["a"]
        gate.limit = 3
        await settle()
        assert inside == ["a", "b", "c"]
        gate.limit = 1
        await settle()
        assert gate.inside == 3
        leave.set()
    assert inside == ["a", "b", "c", "d"]
    assert gate.inside == 0
    with pytest.raises(ValueError, match="at least 1"):
        gate.limit = 0


async def test_waiting_is_told_with_the_gate_and_the_time() -> None:
    now, told = 0.0, list[tuple[str, str, float]]()
    gate = Gate("forks", 1, waited=lambda *what: told.append(what), clock=lambda: now)
    leave = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(gate, "a", [], leave))
        await settle()
        group.create_task(hold(gate, "b", [], leave))
        await settle()
        now = 1.5
        leave.set()
    assert told == [("b", "forks", 1.5)]


@settings(max_examples=60, deadline=None)
@given(
    limits=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    cancelled=st.sets(st.integers(0, 19)),
    yields=st.lists(st.integers(0, 4), min_size=20, max_size=20),
)
def test_places_are_neither_lost_nor_doubled(limits: list[int], cancelled: set[int], yields: list[int]) -> None:
    async def play() -> None:
        gate, inside, most = Gate("any", limits[0]), 0, max(limits)

        async def visit(number: int) -> None:
            nonlocal inside
            async with gate.place(str(number)):
                inside += 1
                assert inside <= most
                try:
                    for _ in range(yields[number]):
                        await asyncio.sleep(0)
                finally:
                    inside -= 1

        tasks = [asyncio.create_task(visit(number)) for number in range(20)]
        for number, limit in enumerate(limits):
            gate.limit = limit
            await asyncio.sleep(0)
            for victim in sorted(cancelled)[number :: len(limits)]:
                tasks[victim].cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert (gate.inside, gate.waiting, inside) == (0, 0, 0)

    asyncio.run(play())
