"""The walk through a recording needs nothing but the conversation, and gives what the API would accept."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.agents.conversation import INTERRUPTED, flaw, text_block, tool_calls, tool_result
from harness.agents.rehearsal.play import NOTHING_FURTHER, answer, recording_for, ticket_of
from harness.agents.rehearsal.recording import Branch, Recording, ToolCall, Turn

WORDS = st.sampled_from(["", "red", "green", "red and green"])


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    count = draw(st.integers(1, 5))
    branches = st.builds(
        Branch,
        contains=st.sampled_from([None, "red", "green"]),
        matches=st.sampled_from([None, "^red", "gr.{2}n$"]),
        go=st.sampled_from([f"turn{index}" for index in range(count)]),
    )
    turns = [
        Turn(
            id=f"turn{index}",
            say=f"turn {index}",
            use=tuple(
                draw(st.lists(st.builds(ToolCall, tool=st.just("bash"), input=st.just({"command": "x"})), max_size=2))
            ),
            next=tuple(draw(st.lists(branches, max_size=3))),
        )
        for index in range(count)
    ]
    return Recording(ticket="one", turns=tuple(turns))


def heard(said: dict[str, Any], words: str) -> dict[str, Any]:
    results = [tool_result(call["id"], words) for call in tool_calls(said)]
    return {"role": "user", "content": results or [text_block(words or "evidence")]}


@given(recording=recordings(), words=st.lists(WORDS, max_size=8))
def test_every_conversation_is_accepted_and_every_walk_repeatable(recording: Recording, words: list[str]) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Ticket one: a title\n\nbody"}]
    ids: list[str] = []
    for word in words:
        first = answer(recording, messages, "one")
        assert answer(recording, list(messages), "one") == first
        said = {"role": "assistant", "content": first.content}
        ids += [call["id"] for call in tool_calls(said)]
        messages += [said, heard(said, word)]
        assert flaw(messages) is None
    assert len(set(ids)) == len(ids)


def walk(recording: Recording, *words: str) -> list[str]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Ticket one: a title"}]
    texts: list[str] = []
    for word in (*words, ""):
        said: dict[str, Any] = {"role": "assistant", "content": answer(recording, messages, "one").content}
        texts.append(said["content"][0]["text"])
        messages += [said, heard(said, word)]
    return texts


def test_the_first_condition_that_holds_decides() -> None:
    use = (ToolCall(tool="bash", input={"command": "make test"}),)
    branches = (Branch(contains="red", matches="v[12]", go="mend"), Branch(contains="red", go="stuck"))
    recording = Recording(
        ticket="one",
        turns=(
            Turn(say="test", use=use, next=branches),
            Turn(id="mend", say="mend", next=(Branch(go="stuck"),)),
            Turn(id="stuck", say="stuck"),
        ),
    )
    assert walk(recording, "red in v2", "x") == ["test", "mend", "stuck"]
    assert walk(recording, "red elsewhere", "x", "y") == ["test", "stuck", NOTHING_FURTHER, NOTHING_FURTHER]
    assert walk(recording, "green") == ["test", "mend"]


def test_a_tool_call_whose_result_was_lost_is_made_again() -> None:
    use = (ToolCall(tool="bash", input={"command": "make"}),)
    recording = Recording(ticket="one", turns=(Turn(say="make", use=use), Turn(say="done")))
    assert walk(recording, INTERRUPTED, "made") == ["make", "make", "done"]


def test_the_ticket_is_in_the_first_line_and_copies_play_their_original() -> None:
    recording = Recording(ticket="users-v2", turns=(Turn(say="a"),))
    assert (
        ticket_of([{"role": "user", "content": [text_block("Ticket users-v2.07: Replace /v1: now")]}]) == "users-v2.07"
    )
    assert ticket_of([{"role": "user", "content": "Hello\nTicket users-v2: x"}]) is None
    assert recording_for("users-v2.07", {"users-v2": recording}, {"users-v2.07": "users-v2"}) is recording
    assert recording_for("users-v2.07", {"users-v2": recording}, {}) is None
