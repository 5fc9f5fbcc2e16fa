"""Whatever moment the process died in, a transcript opens to a conversation that the API accepts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphs.ports import LeaseLost
from harness.agents.conversation import INTERRUPTED, Message, flaw, mended, text_block, text_of, tool_result
from harness.agents.transcript import Origin, Transcript, carry_over, current, read
from tasks.errors import StoreError

Said = tuple[Origin, list[dict[str, Any]], str | None]


def call(number: int, name: str = "read") -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {"file_path": "ä/𝄞.py"}}


@st.composite
def conversations(draw: st.DrawFn) -> list[Said]:
    """What one agent may have said and heard: turns of calls and results, nudges, several words of the loop."""
    texts = st.text(alphabet="aß𝄞 \n", max_size=6)
    said: list[Said] = []
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        said.append(("loop", [text_block("Ticket one: " + draw(texts))], None))
        for _ in range(draw(st.integers(0, 3))):
            calls = [call(number + index) for index in range(draw(st.integers(1, 3)))]
            number += len(calls)
            said.append(("agent", [text_block(draw(texts)), *calls], "tool_use"))
            said.append(("tools", [tool_result(each["id"], draw(texts)) for each in calls], None))
            if draw(st.booleans()):
                said.append(("harness", [text_block("three calls left")], None))
        said.append(("agent", [text_block(draw(texts))], "end_turn"))
    return said


def keep(folder: Path, said: Sequence[Said]) -> Path:
    transcript = Transcript.open(folder, "run", "one")
    for origin, content, stop_reason in said:
        transcript.add(origin, content, stop_reason=stop_reason)
    return transcript.path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=conversations(), part=st.floats(0, 1))
def test_cut_at_any_byte_it_is_still_a_conversation(
    said: list[Said], part: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("transcripts")
    path = keep(folder, said)
    whole = path.read_bytes()
    cut = round(part * len(whole))
    os.truncate(path, cut)
    opened = Transcript.open(folder, "run", "one")
    kept = whole[: whole.rfind(b"\n", 0, cut) + 1].count(b"\n") - 1
    assert len(opened.entries) == max(kept, 0)
    opened.add("loop", [text_block("go on")])
    assert flaw(opened.messages()) is None
    assert opened.messages() == Transcript.open(folder, "run", "one").messages()
    torn = path.with_name(path.name + ".torn")
    assert (torn.read_bytes() if torn.exists() else b"").removesuffix(b"\n") == whole[
        whole.rfind(b"\n", 0, cut) + 1 : cut
    ]


@given(said=conversations())
def test_what_was_sent_stays_a_prefix_of_what_is_sent_next(said: list[Said]) -> None:
    def flat(count: int) -> list[tuple[str, Any]]:
        log = [
            {"role": "assistant" if who == "agent" else "user", "content": content} for who, content, _ in said[:count]
        ]
        return [(message["role"], block) for message in mended(log) for block in message["content"]]

    sent = [count for count in range(1, len(said) + 1) if said[count - 1][0] != "agent"]
    for earlier, later in pairwise(sent):
        assert flat(later)[: len(flat(earlier))] == flat(earlier)


def test_a_call_without_its_result_gets_one_that_says_so() -> None:
    log: list[Message] = [
        {"role": "user", "content": "Ticket one: do it"},
        {"role": "assistant", "content": [call(1), call(2)]},
    ]
    assert [block["tool_use_id"] for block in mended(log)[-1]["content"]] == ["toolu_1", "toolu_2"]
    heard = mended([*log, {"role": "user", "content": [text_block("evidence"), tool_result("toolu_2", "two")]}])[-1]
    assert [block.get("tool_use_id") for block in heard["content"]] == ["toolu_1", "toolu_2", None]
    assert text_of(heard) == f"{INTERRUPTED}\ntwo\nevidence"


def test_text_that_utf8_cannot_say_does_not_spoil_the_file(tmp_path: Path) -> None:
    path = keep(tmp_path, [("loop", [text_block("lone \ud83d surrogate")], None)])
    (entry,) = read(path)
    assert entry.content == [text_block("lone ? surrogate")]


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    path = keep(tmp_path, [("loop", [text_block("a")], None), ("agent", [text_block("b")], "end_turn")])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{", lines[2], ""]))
    with pytest.raises(StoreError, match=r"one\.jsonl:2: not a line of a transcript"):
        Transcript.open(tmp_path, "run", "one")


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run" / "one.jsonl"
    path.parent.mkdir()
    path.write_text('{"transcript": 2}\n')
    with pytest.raises(StoreError, match="no transcript of format 1"):
        Transcript.open(tmp_path, "run", "one")


def test_a_disk_that_takes_nothing_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(StoreError, match="the transcript cannot be kept") as raised:
        Transcript.open(tmp_path, "run", "one")
    assert raised.value.hint


def test_whoever_takes_it_over_goes_on_with_it_and_who_had_it_says_nothing_more(tmp_path: Path) -> None:
    before = Transcript.open(tmp_path, "run", "one", 2)
    before.add("loop", [text_block("Ticket one: do it")])
    before.add("agent", [text_block("I begin.")])
    with before.path.open("ab") as file:
        file.write(b'{"origin": "ag')
    after = Transcript.open(tmp_path, "run", "one", 5)
    assert [text_of(entry.message) for entry in after.entries] == ["Ticket one: do it", "I begin."]
    with pytest.raises(LeaseLost):
        before.add("agent", [text_block("I go on.")])
    with pytest.raises(LeaseLost):
        Transcript.open(tmp_path, "run", "one", 2)
    with pytest.raises(LeaseLost):
        carry_over(tmp_path, "run", "zero", "one", 2)
    after.add("agent", [text_block("I go on.")], stop_reason="end_turn")
    assert current(tmp_path, "run", "one") == after.path
    assert [entry.content for entry in read(after.path)] == [entry.content for entry in after.entries]
    assert sorted(path.name for path in after.path.parent.iterdir()) == ["one~2.jsonl.torn", "one~5.jsonl"]


def test_it_is_taken_over_whole_or_not_at_all(tmp_path: Path) -> None:
    before = Transcript.open(tmp_path, "run", "one")
    before.add("loop", [text_block("Ticket one: do it")])
    (tmp_path / "run" / "one~3.jsonl.new").write_text('{"transcript": 1}\n')
    (tmp_path / "run" / "one.1.jsonl").write_text("of another ticket")
    assert current(tmp_path, "run", "one") == before.path
    assert len(Transcript.open(tmp_path, "run", "one", 3).entries) == 1
    assert current(tmp_path, "run", "one").name == "one~3.jsonl"
