"""An API that answers in JSON of the wrong shape, as gateways do: it is tried again, and never a defect of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from typing import Any, Final

import pytest

from harness.agents.anthropic.client import CallLimits, ModelClient, Reply
from harness.agents.anthropic.layout import system_blocks
from harness.agents.conversation import text_block
from harness.agents.meter import OpenMeter
from tasks.errors import ModelError

Events = list[dict[str, Any]]

_USAGE: Final = {"input_tokens": 3, "output_tokens": 1}
_MESSAGE: Final[dict[str, Any]] = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "content": [],
    "model": "claude-sonnet-5-5",
    "stop_reason": None,
    "stop_sequence": None,
    "usage": _USAGE,
}
START: Final = {"type": "message_start", "message": _MESSAGE}
STOP: Final = {"type": "content_block_stop", "index": 0}


def block(begun: dict[str, Any], piece: dict[str, Any], stop_reason: str) -> Events:
    return [
        START,
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {"type": "content_block_delta", "index": 0, "delta": piece},
        STOP,
        {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]


SAYS: Final = block({"type": "text", "text": ""}, {"type": "text_delta", "text": "hi"}, "end_turn")
CALLS: Final = block(
    {"type": "tool_use", "id": "t1", "name": "bash", "input": {}},
    {"type": "input_json_delta", "partial_json": '{"command": "true"}'},
    "tool_use",
)
WRONG: Final[tuple[Any, ...]] = (None, 7, "x", [], {}, 1.5)


def with_(events: Events, value: object, *path: str | int) -> Events:
    """The events with another value at the path."""
    changed: Any = deepcopy(events)
    inside = changed
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    return list(changed)


@asynccontextmanager
async def answering(events: Sequence[dict[str, Any]]) -> AsyncIterator[str]:
    """An API that answers every call with these events."""
    lines = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events]
    body = "".join(lines).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while said := (await reader.readuntil(b"\r\n\r\n")).lower():
                length = next(line for line in said.split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                writer.write(head + body)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def call(events: Events, meter: OpenMeter) -> Reply:
    limits = CallLimits(tries=2, first_wait_s=0.001, longest_wait_s=0.002)
    async with (
        answering(events) as url,
        ModelClient(
            model="claude-sonnet-5-5", max_tokens=9, meter=meter, base_url=url, api_key="any", limits=limits
        ) as client,
    ):
        messages = [{"role": "user", "content": [text_block("Please.")]}]
        return await client.call("one", system=system_blocks("You work."), tools=[], messages=messages)


@pytest.mark.parametrize(
    "path",
    [
        (0, "message"),
        (1, "content_block"),
        (1, "content_block", "text"),
        (2, "index"),
        (2, "delta"),
        (2, "delta", "text"),
        (4, "delta"),
        (4, "delta", "stop_reason"),
    ],
)
async def test_events_of_another_shape_are_tried_again(path: tuple[str | int, ...]) -> None:
    before: Any = SAYS
    for step in path:
        before = before[step]
    for value in (one for one in WRONG if type(one) is not type(before)):
        with pytest.raises(ModelError, match="no answer in 2 tries"):
            await call(with_(SAYS, value, *path), OpenMeter())


@pytest.mark.parametrize("said", ["[1]", "7", "null", '{"seconds": NaN}', '{"seconds": Infinity}', '{"half'])
async def test_an_input_that_could_not_be_sent_back_is_tried_again(said: str) -> None:
    meter = OpenMeter()
    with pytest.raises(ModelError, match="the answer cannot be read"):
        await call(with_(CALLS, said, 2, "delta", "partial_json"), meter)
    assert [one.stop_reason for _, one in meter.calls] == ["broken", "broken"], "it was paid for"


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    "path",
    [
        (0, "message", "model"),
        (0, "message", "usage"),
        (0, "message", "usage", "input_tokens"),
        (0, "message", "usage", "cache_read_input_tokens"),
        (4, "usage"),
        (4, "usage", "output_tokens"),
    ],
)
async def test_counts_that_are_left_out_or_wrong_spoil_no_answer(path: tuple[str | int, ...], value: object) -> None:
    meter = OpenMeter()
    events = with_(with_(SAYS, {**_USAGE}, 0, "message", "usage"), value, *path)
    reply = await call(events, meter)
    assert reply.content == [text_block("hi")]
    ((_, charged),) = meter.calls
    assert charged.input_tokens in (0, 3, 7)
    assert charged.output_tokens in (0, 1, 5, 7)
