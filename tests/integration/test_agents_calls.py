"""One model call against a real server: what is repeated, what is charged, what is told to the user."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.agents.anthropic.client import CallLimits, ModelClient, Reply
from harness.agents.anthropic.layout import system_blocks
from harness.agents.anthropic.refusals import TooLong
from harness.agents.meter import Allowance, CallFailed, ModelCall, OpenMeter, OutOfBudget, Slot, Wanted
from harness.agents.rehearsal.limits import RateLimit
from harness.agents.rehearsal.server import serve_rehearsal
from tasks.errors import ModelError

QUICK = CallLimits(wall_s=20, idle_s=4, tries=4, first_wait_s=0.001, longest_wait_s=0.01, longest_retry_after_s=0.01)
OPENING = [{"role": "user", "content": [{"type": "text", "text": "Ticket one: do it"}]}]


class WatchedMeter(OpenMeter):
    """An open meter that notes what passes through its slots, and refuses after so many tries."""

    def __init__(self, tries: int = 100) -> None:
        super().__init__(calls_in_flight=1)
        self.tries_left, self.held = tries, 0
        self.troubles, self.messages, self.wanted = list[str](), list[str](), list[Wanted]()
        self.retry_after_s: list[float | None] = []
        self.told: list[Allowance] = []

    @asynccontextmanager
    async def call(self, ticket: str, wanted: Wanted) -> AsyncIterator[Slot]:
        self.tries_left -= 1
        if self.tries_left < 0:
            raise OutOfBudget("the ticket's budget is used up")
        self.wanted.append(wanted)
        async with super().call(ticket, wanted) as slot:
            self.held += 1
            try:
                yield _WatchedSlot(slot, self.told)
            except CallFailed as failed:
                self.troubles.append(failed.trouble)
                self.messages.append(failed.message)
                self.retry_after_s.append(failed.retry_after_s)
                raise
            finally:
                self.held -= 1


@dataclass
class _WatchedSlot:
    inner: Slot
    heard: list[Allowance]

    def told(self, allowances: Sequence[Allowance]) -> None:
        self.heard += allowances

    def charge(self, call: ModelCall) -> None:
        self.inner.charge(call)


@pytest.fixture
async def base_url(tmp_path: Path) -> AsyncIterator[str]:
    (tmp_path / "one.yaml").write_text("ticket: one\nturns: [{say: Good morning to all of you who read this.}]\n")
    async with serve_rehearsal(tmp_path) as url:
        yield url


@pytest.fixture
def meter() -> WatchedMeter:
    return WatchedMeter()


async def order(base_url: str, *faults: dict[str, Any]) -> None:
    async with httpx.AsyncClient() as http:
        (await http.post(f"{base_url}/_faults", json={"next": faults})).raise_for_status()


async def call(
    base_url: str, meter: WatchedMeter, *, limits: CallLimits = QUICK, messages: Any = OPENING, key: str | None = "any"
) -> Reply:
    client = ModelClient(
        model="claude-sonnet-5-5", max_tokens=100, meter=meter, base_url=base_url, api_key=key, limits=limits
    )
    async with client:
        return await client.call("one", system=system_blocks("You work."), tools=[], messages=messages)


async def test_an_answer_is_charged_with_its_price(base_url: str, meter: WatchedMeter) -> None:
    reply = await call(base_url, meter)
    assert reply.content == [{"type": "text", "text": "Good morning to all of you who read this."}]
    ((ticket, charged),) = meter.calls
    assert (ticket, charged, charged.stop_reason) == ("one", reply.call, "end_turn")
    assert charged.priced
    assert charged.cost_usd > 0
    assert charged.output_tokens > 0
    assert charged.cache_write_tokens > 0


@pytest.mark.parametrize(
    ("faults", "troubles"),
    [
        ([{"status": 429, "retry_after": 3600}], ["rate_limited"]),
        ([{"status": 529}, {"status": 500}, {"status": 408}], ["overloaded", "failing", "failing"]),
        ([{"status": 503, "retry_after": 1}], ["overloaded"]),
        ([{"cut": True}], ["unreachable"]),
        ([{"garbage": True}], ["garbled"]),
        ([{"stall_s": 60}], ["unreachable"]),
    ],
)
async def test_what_may_pass_is_repeated(
    base_url: str, meter: WatchedMeter, faults: list[dict[str, Any]], troubles: list[str]
) -> None:
    await order(base_url, *faults)
    assert (await call(base_url, meter)).stop_reason == "end_turn"
    assert meter.troubles == troubles


@pytest.mark.parametrize("broken", [{"cut": True}, {"garbage": True}, {"stall_s": 60}])
async def test_an_answer_that_broke_off_is_charged_too(
    base_url: str, meter: WatchedMeter, broken: dict[str, Any]
) -> None:
    await order(base_url, broken)
    await call(base_url, meter)
    assert [charged.stop_reason for _, charged in meter.calls] == ["broken", "end_turn"]
    assert meter.calls[0][1].cost_usd > 0


async def test_who_gives_up_between_two_tries_takes_back_no_note_of_what_was_billed(
    base_url: str, meter: WatchedMeter
) -> None:
    await order(base_url, {"cut": True})
    noted, told = Future[None](), asyncio.Event()

    def note(billed: ModelCall) -> Future[None]:
        told.set()
        return noted

    client = ModelClient(
        model="claude-sonnet-5-5", max_tokens=100, meter=meter, base_url=base_url, api_key="any", limits=QUICK
    )
    async with client:
        asked = client.call("one", system=system_blocks("You work."), tools=[], messages=OPENING, billed=note)
        calling = asyncio.create_task(asked)
        await told.wait()
        # The broken call lets go of its slot and comes to its rest, where it waits for the note.
        while not meter.troubles or meter.held:  # noqa: ASYNC110 - the meter is told by nobody
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        calling.cancel()
        await asyncio.wait([calling])
    assert calling.cancelled()
    assert not noted.cancelled()


async def test_an_error_in_the_stream_is_what_its_type_says(meter: WatchedMeter) -> None:
    said = {"type": "error", "error": {"type": "overloaded_error", "message": "come again"}}
    stream = f"event: ping\ndata: {{}}\n\nevent: error\ndata: {json.dumps(said)}\n\n"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(stream)}\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write((head + stream).encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(ModelError, match="the last one: come again"):
            await call(f"http://{host}:{port}", meter)
    assert meter.troubles == ["overloaded"] * 4


async def test_the_wall_limit_ends_a_call_that_keeps_talking(base_url: str, meter: WatchedMeter) -> None:
    await order(base_url, {"stall_s": 60, "pings": True})
    limits = CallLimits(wall_s=6, idle_s=2, tries=2, first_wait_s=0.001)
    assert (await call(base_url, meter, limits=limits)).stop_reason == "end_turn"
    assert meter.messages == ["no whole answer within 6 s"]


async def test_the_idle_limit_ends_a_stream_that_went_silent(base_url: str, meter: WatchedMeter) -> None:
    await order(base_url, {"stall_s": 60})
    limits = CallLimits(wall_s=900, idle_s=1, tries=2, first_wait_s=0.001)
    assert (await call(base_url, meter, limits=limits)).stop_reason == "end_turn"
    assert meter.messages == ["the API went silent"]


async def test_what_the_provider_says_of_its_limits_is_passed_on(meter: WatchedMeter, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("ticket: one\nturns: [{say: Good morning.}]\n")
    limit = RateLimit(requests_per_s=0.5, burst=1, output_tokens_per_min=1_000)
    async with serve_rehearsal(tmp_path, limit=limit) as url:
        # The first is answered, the second is rejected and comes again.
        limits = CallLimits(tries=9, first_wait_s=0.001, longest_wait_s=0.01)
        await call(url, meter, limits=limits)
        await call(url, meter, limits=limits)
    assert meter.troubles[0] == "rate_limited"
    assert meter.retry_after_s[0] in (1, 2)
    first, output, rejected = meter.told[0], meter.told[1], meter.told[2]
    assert (first.resource, first.limit, first.remaining) == ("requests", 30, 0)
    assert (output.resource, output.limit) == ("output_tokens", 1_000)
    assert 900 < output.remaining < 1_000
    assert (rejected.resource, rejected.remaining) == ("requests", 0)
    assert 0 <= rejected.full_in_s <= 3


async def test_a_long_retry_after_is_cut(base_url: str, meter: WatchedMeter) -> None:
    await order(base_url, {"status": 429, "retry_after": 3600})
    await call(base_url, meter)
    assert meter.retry_after_s == [QUICK.longest_retry_after_s]


async def test_what_a_call_adds_to_the_cached_is_wanted(base_url: str, meter: WatchedMeter) -> None:
    client = ModelClient(model="claude-x", max_tokens=100, meter=meter, base_url=base_url, api_key="any")
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 1_000_000}}
    longer = [{"role": "user", "content": [*OPENING[0]["content"], picture]}]
    async with client:
        for messages in (OPENING, OPENING, longer):
            await client.call("one", system=system_blocks("s" * 3_500), tools=[], messages=messages)
    first, same, added = (wanted.uncached_tokens for wanted in meter.wanted)
    assert 1_000 < first < 1_100
    assert (same, added) == (0, 1_600)
    assert {wanted.max_output_tokens for wanted in meter.wanted} == {100}


async def test_after_the_last_try_it_is_an_error_of_the_environment(base_url: str, meter: WatchedMeter) -> None:
    await order(base_url, *[{"status": 529}] * 4)
    with pytest.raises(ModelError, match="no answer in 4 tries; the last one: overloaded") as raised:
        await call(base_url, meter)
    assert raised.value.exit_code == 3
    assert meter.troubles == ["overloaded"] * 4


async def test_a_server_that_is_not_there_is_tried_again_too(meter: WatchedMeter) -> None:
    with pytest.raises(ModelError, match="the connection failed"):
        await call("http://127.0.0.1:9", meter)
    assert meter.troubles == ["unreachable"] * 4


@pytest.mark.parametrize(
    ("fault", "said", "hint", "of_all"),
    [
        ({"status": 400, "message": "tools.0: bad"}, r"refused the call \(400\): tools.0: bad", "its words", False),
        ({"status": 400, "message": "Your credit balance is too low"}, "credit balance", "no credit left", True),
        ({"status": 401}, "invalid x-api-key", "ANTHROPIC_API_KEY", True),
        ({"status": 403}, "permission", "permissions", False),
        ({"status": 404, "message": "no such page"}, "no such page", "agent.model", False),
        ({"status": 404, "message": "model: claude-sonnet-5-5"}, "model: ", "agent.model", True),
    ],
)
async def test_what_cannot_pass_is_told_once(
    base_url: str, meter: WatchedMeter, fault: dict[str, Any], said: str, hint: str, of_all: bool
) -> None:
    await order(base_url, fault)
    with pytest.raises(ModelError, match=said) as raised:
        await call(base_url, meter)
    assert hint in raised.value.hint
    assert raised.value.of_all is of_all
    assert (meter.troubles, meter.calls) == ([], [])


async def test_a_conversation_that_outgrew_the_model_is_a_signal(base_url: str, meter: WatchedMeter) -> None:
    await order(base_url, {"status": 400, "message": "prompt is too long: 210000 tokens > 200000 maximum"})
    with pytest.raises(TooLong):
        await call(base_url, meter)


async def test_without_any_key_it_says_which_one(
    base_url: str, meter: WatchedMeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ModelError) as raised:
        await call(base_url, meter, key=None)
    assert "ANTHROPIC_API_KEY" in raised.value.hint


async def test_the_environment_is_used_as_users_of_the_sdk_expect(
    base_url: str, meter: WatchedMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "any")
    async with ModelClient(model="claude-x", max_tokens=100, meter=meter) as client:
        reply = await client.call("one", system=[], tools=[], messages=OPENING)
    assert (reply.stop_reason, reply.call.priced, reply.call.cost_usd) == ("end_turn", False, 0.0)


async def test_the_meter_is_asked_before_every_try(base_url: str) -> None:
    meter = WatchedMeter(tries=2)
    await order(base_url, *[{"status": 529}] * 4)
    with pytest.raises(OutOfBudget, match="the ticket's budget is used up"):
        await call(base_url, meter)
    assert meter.troubles == ["overloaded"] * 2


async def test_no_slot_is_held_while_waiting(base_url: str, meter: WatchedMeter) -> None:
    await order(base_url, {"status": 429, "retry_after": 600})
    patient = CallLimits(tries=2, first_wait_s=0.001, longest_retry_after_s=600)
    waiting = asyncio.create_task(call(base_url, meter, limits=patient))
    while not meter.troubles:  # noqa: ASYNC110 - ends by the test's own time limit
        await asyncio.sleep(0.01)
    # The only slot is free for another agent's call.
    assert (await call(base_url, meter)).stop_reason == "end_turn"
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_cancelled_call_gives_its_slot_back(base_url: str, meter: WatchedMeter) -> None:
    await order(base_url, {"stall_s": 60})
    patient = CallLimits(idle_s=60)
    stalled = asyncio.create_task(call(base_url, meter, limits=patient))
    while not meter.held:  # noqa: ASYNC110 - ends by the test's own time limit
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    stalled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stalled
    assert meter.held == 0
    assert (await call(base_url, meter)).stop_reason == "end_turn"
