"""The pool: asyncio-pool's measured bites, one test each as far as the wrapper is exposed to them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine.pool import Pool

Job = Callable[[], Awaitable[None]]


@pytest.fixture(autouse=True)
async def _nothing_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}


def blocking(gate: asyncio.Event, done: list[str], name: str = "job") -> Job:
    async def job() -> None:
        await gate.wait()
        done.append(name)

    return job


async def nothing() -> None:
    pass


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_results_come_when_they_are_there_not_when_all_are() -> None:
    gate, done = asyncio.Event(), list[str]()
    async with Pool(2) as pool:
        slow = await pool.start(blocking(gate, done), "slow")
        await (await pool.start(nothing, "quick"))
        assert not slow.done()
        gate.set()
        await slow


async def test_cancelling_who_waits_for_a_slot_is_not_swallowed() -> None:
    gate, done = asyncio.Event(), list[str]()
    async with Pool(1) as pool:
        first = await pool.start(blocking(gate, done, "first"), "first")
        waiting = asyncio.create_task(pool.start(blocking(gate, done, "second"), "second"))
        await settled()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        await first
        await settled()
        assert done == ["first"]
        assert pool.running == 0


async def test_a_time_out_around_the_wait_for_a_slot_holds() -> None:
    gate, done = asyncio.Event(), list[str]()
    async with Pool(1) as pool:
        first = await pool.start(blocking(gate, done), "first")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await pool.start(nothing, "second")
        gate.set()
        await first
        await (await pool.start(nothing, "third"))


async def test_who_was_cancelled_while_waiting_never_runs_later() -> None:
    gate, done = asyncio.Event(), list[str]()
    async with Pool(1) as pool:
        first = await pool.start(blocking(gate, done, "first"), "first")
        waiting = [asyncio.create_task(pool.start(blocking(gate, done, name), name)) for name in ("a", "b")]
        await settled()
        waiting[0].cancel()
        # The slot comes free in the very moment of the cancellation.
        gate.set()
        await first
        await asyncio.wait(waiting)
        await waiting[1].result()
    await settled()
    assert waiting[0].cancelled()
    assert done == ["first", "b"]


async def test_a_cancelled_job_looks_cancelled() -> None:
    async def job() -> None:
        raise asyncio.CancelledError

    async with Pool(1) as pool:
        ended = await pool.start(job, "job")
        await asyncio.wait([ended])
        assert ended.cancelled()


async def test_leaving_stops_what_follows_a_job_too() -> None:
    steps: list[str] = []

    async def job() -> None:
        steps.append("begun")
        await nothing()
        await asyncio.Event().wait()
        steps.append("followed")

    async with Pool(1) as pool:
        await pool.start(job, "job")
        await settled()
    assert steps == ["begun"]


async def test_partials_and_bound_methods_are_jobs() -> None:
    done: list[str] = []

    async def note(name: str) -> None:
        done.append(name)

    async with Pool(2) as pool:
        await (await pool.start(functools.partial(note, "a"), "a"))
        await (await pool.start(lambda: note("b"), "b"))
    assert done == ["a", "b"]


async def test_cancelling_the_future_of_a_job_does_not_hang_the_pool() -> None:
    gate, done = asyncio.Event(), list[str]()
    async with Pool(1) as pool:
        ended = await pool.start(blocking(gate, done), "job")
        ended.cancel()
        gate.set()
        await (await pool.start(nothing, "next"))
    assert done == ["job"]


async def test_nothing_to_do_is_fine() -> None:
    async with Pool(3) as pool:
        assert pool.running == 0
    with pytest.raises(ValueError, match="at least one slot"):
        Pool(0)


async def test_a_failing_job_gives_its_error_to_its_own_future_only() -> None:
    async def fail() -> None:
        raise LookupError("mine")

    async with Pool(2) as pool:
        bad, good = await pool.start(fail, "bad"), await pool.start(nothing, "good")
        with pytest.raises(LookupError, match="mine"):
            await bad
        await good
        assert pool.running == 0


async def test_leaving_by_an_error_cancels_and_waits() -> None:
    cleaned: list[str] = []

    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("yes")

    async def broken_off() -> None:
        async with Pool(4) as pool:
            for _ in range(4):
                await pool.start(job, "job")
            await settled()
            raise LookupError

    with pytest.raises(LookupError):
        await broken_off()
    assert cleaned == ["yes"] * 4


async def test_a_job_may_wait_for_another_one() -> None:
    done: list[str] = []
    async with Pool(2) as pool:

        async def outer() -> None:
            await (await pool.start(blocking(gate, done, "inner"), "inner"))
            done.append("outer")

        gate = asyncio.Event()
        ended = await pool.start(outer, "outer")
        gate.set()
        await ended
    assert done == ["inner", "outer"]


async def test_who_waits_while_the_pool_closes_is_told() -> None:
    gate, done = asyncio.Event(), list[str]()
    async with Pool(1) as pool:
        await pool.start(blocking(gate, done), "first")
        waiting = asyncio.create_task(pool.start(nothing, "late"))
        await settled()
    with pytest.raises(RuntimeError, match="closed"):
        await waiting
    with pytest.raises(RuntimeError, match="closed"):
        await pool.start(nothing, "later still")


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 5),
    jobs=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["ends", "fails", "is cancelled"])), max_size=25),
)
def test_never_more_than_size_at_once_whatever_happens(size: int, jobs: list[tuple[int, str]]) -> None:
    async def run() -> None:
        at_work, most, ran = 0, 0, 0

        async def job(steps: int, how: str) -> None:
            nonlocal at_work, most, ran
            at_work, ran = at_work + 1, ran + 1
            most = max(most, at_work)
            try:
                for _ in range(steps):
                    await asyncio.sleep(0)
                if how == "fails":
                    raise LookupError
                if how == "is cancelled":
                    raise asyncio.CancelledError
            finally:
                at_work -= 1

        async with Pool(size) as pool:
            futures = [await pool.start(functools.partial(job, *one), "job") for one in jobs]
            assert pool.running <= size
            if futures:
                await asyncio.wait(futures)
            for future in futures:
                if not future.cancelled():
                    future.exception()
            assert pool.running == 0
        assert ran == len(jobs)
        assert most <= size
        assert at_work == 0

    asyncio.run(run())
