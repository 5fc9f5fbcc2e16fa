"""An answer put together from its stream: the same as the SDK's own reader makes of it, however it is cut in pieces."""

from __future__ import annotations

import itertools
import json
from typing import Any, cast

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from harness.agents.anthropic.answer import Answer

EVENTS: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
BEGIN = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-5",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 1, "cache_read_input_tokens": 7},
    },
}


Event = dict[str, Any]


def ended(stop_reason: str, **usage: int) -> Event:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 40, **usage}}


def block(index: int, begun: dict[str, Any], deltas: list[dict[str, Any]]) -> list[Event]:
    return [
        {"type": "content_block_start", "index": index, "content_block": begun},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def in_pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in itertools.pairwise(places)]


def text(index: int, said: list[str]) -> list[Event]:
    return block(index, {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in said])


def thought(index: int, said: list[str]) -> list[Event]:
    pieces: list[dict[str, Any]] = [{"type": "thinking_delta", "thinking": piece} for piece in said]
    begun = {"type": "thinking", "thinking": "", "signature": ""}
    return block(index, begun, [*pieces, {"type": "signature_delta", "signature": "sig"}])


def called(index: int, said: list[str]) -> list[Event]:
    begun = {"type": "tool_use", "id": f"t{index}", "name": "write", "input": {}}
    return block(index, begun, [{"type": "input_json_delta", "partial_json": piece} for piece in said])


def read(events: list[Event]) -> Answer:
    answer = Answer()
    for one in events:
        answer.take(one)
    return answer


cuts = st.lists(st.integers(0, 200), max_size=8)
values = st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.lists(st.text(), max_size=3), max_size=3)
blocks = st.one_of(
    st.tuples(st.just(text), st.text(min_size=1)),
    st.tuples(st.just(thought), st.text(min_size=1)),
    st.tuples(st.just(called), values.map(json.dumps)),
)


@given(st.lists(st.tuples(blocks, cuts), min_size=1, max_size=4))
def test_it_is_what_the_sdk_reads(parts: list[tuple[tuple[Any, str], list[int]]]) -> None:
    events = [BEGIN]
    for index, ((kind, whole), cut) in enumerate(parts):
        events += kind(index, in_pieces(whole, cut))
    events.append(ended("tool_use", cache_creation_input_tokens=3))
    answer = read(events)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for one in events:
        sdks = EVENTS.validate_python(one)
        snapshot = accumulate_event(event=sdks, current_snapshot=snapshot, json_bufs=buffers)
    theirs = [cast(dict[str, Any], one.to_dict()) for one in snapshot.content]
    assert answer.content() == [{key: value for key, value in one.items() if key != "citations"} for one in theirs]
    assert answer.stop_reason == snapshot.stop_reason
    assert answer.model == snapshot.model
    assert answer.usage == {name: getattr(snapshot.usage, name) for name in answer.usage}


def test_the_input_of_a_call_that_was_cut_is_as_far_as_it_came() -> None:
    events = [BEGIN, *called(0, ['{"path": "a.py", "conte']), ended("max_tokens")]
    (made,) = read(events).content()
    assert made["input"] == {"path": "a.py"}


def test_a_call_whose_input_is_no_json_is_none() -> None:
    answer = read([BEGIN, *called(0, ['{"path": "a.py", "conte']), ended("tool_use")])
    with pytest.raises(ValueError, match="EOF"):
        answer.content()


def test_a_call_without_input_has_an_empty_one() -> None:
    (made,) = read([BEGIN, *called(0, []), ended("tool_use")]).content()
    assert made["input"] == {}


def test_sources_are_kept_with_the_text() -> None:
    source = {
        "type": "char_location",
        "cited_text": "tea",
        "document_index": 0,
        "document_title": None,
        "start_char_index": 0,
        "end_char_index": 3,
        "file_id": None,
    }
    events = block(
        0,
        {"type": "text", "text": "", "citations": None},
        [{"type": "text_delta", "text": "Tea."}, {"type": "citations_delta", "citation": source}],
    )
    (said,) = read([BEGIN, *events, ended("end_turn")]).content()
    assert (said["text"], said["citations"]) == ("Tea.", [source])


@pytest.mark.parametrize("first", [text(0, ["a"])[0], text(0, ["a"])[1], ended("end_turn")])
def test_nothing_comes_before_the_beginning(first: Event) -> None:
    with pytest.raises(ValueError, match="before the message has begun"):
        Answer().take(first)


def test_no_piece_comes_before_its_block() -> None:
    answer = read([BEGIN, *text(0, ["a"])])
    with pytest.raises(ValueError, match="has not begun"):
        answer.take(text(1, ["b"])[1])


def test_what_was_billed_is_known_before_the_end() -> None:
    answer = read([BEGIN, *text(0, ["a"])])
    assert (answer.usage["input_tokens"], answer.stop_reason) == (11, None)
