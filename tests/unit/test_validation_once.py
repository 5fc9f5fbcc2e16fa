"""One task for all who ask: shared, kept, renewed after a failure, and ended with its owner."""

from __future__ import annotations

import asyncio

import pytest

from harness.validation.once import Once


class Source:
    """Finds numbers, one a call, when it is let; fails where told to."""

    def __init__(self, *, failing: int = 0) -> None:
        self.calls = 0
        self.cancelled = 0
        self.began = asyncio.Semaphore(0)
        self.let = asyncio.Event()
        self._failing = failing

    async def find(self) -> int:
        self.calls += 1
        call = self.calls
        self.began.release()
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if call <= self._failing:
            raise LookupError(f"call {call}")
        return call


async def test_all_who_ask_for_one_key_share_one_answer() -> None:
    once: Once[str, int] = Once()
    source = Source()
    source.let.set()
    assert await asyncio.gather(*(once.get(key, source.find, name=key) for key in "aba")) == [1, 2, 1]
    assert await once.get("a", source.find, name="a") == 1
    once.forget("a")
    assert await once.get("a", source.find, name="a") == 3


async def test_what_failed_is_tried_anew() -> None:
    once: Once[str, int] = Once()
    source = Source(failing=1)
    source.let.set()
    together = await asyncio.gather(*(once.get("a", source.find, name="a") for _ in "12"), return_exceptions=True)
    assert [str(failed) for failed in together] == ["call 1", "call 1"]
    assert await once.get("a", source.find, name="a") == 2


async def test_one_who_is_cancelled_leaves_the_answer_to_the_others() -> None:
    once: Once[str, int] = Once()
    source = Source()
    first, second = (asyncio.create_task(once.get("a", source.find, name="a")) for _ in "12")
    await source.began.acquire()
    first.cancel()
    await asyncio.wait([first])
    source.let.set()
    assert first.cancelled()
    assert await second == 1


async def test_closed_it_has_ended_what_still_ran_and_finds_anew() -> None:
    once: Once[str, int] = Once()
    source = Source()
    askers = [asyncio.create_task(once.get(key, source.find, name=key)) for key in "ab"]
    for _ in askers:
        await source.began.acquire()
    await once.aclose()
    assert source.cancelled == 2
    for asker in askers:
        with pytest.raises(asyncio.CancelledError):
            await asker
    source.let.set()
    assert await once.get("a", source.find, name="a") == 3
    await once.aclose()
