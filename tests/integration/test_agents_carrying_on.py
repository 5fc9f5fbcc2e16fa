"""An attempt that goes on from where another one ended: the same conversation, and counters of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from graphs.ports import Generated, Work
from graphs.prompts import going_on
from harness.agents.conversation import flaw, text_of
from harness.agents.transcript import Transcript, carry_over
from harness.settings import AgentSettings
from harness.store.notes import Note
from tests.integration.test_agents_loop import DONE, OPENING, Stage, bash, limited, use

GO = going_on("needs_human, Which currency?", "payments said: no currency")


@pytest.fixture
def stage(tmp_path: Path, make_repo: Callable[[Mapping[str, str]], Path]) -> Stage:
    return Stage(tmp_path, make_repo({"app.py": "print('hello')\n"}))


def second(stage: Stage) -> Work:
    return replace(stage.work(), attempt=2)


def transcript(stage: Stage, name: str = "one@2") -> Transcript:
    return Transcript.open(stage.folder / "transcripts", "run", name)


async def test_the_question_is_answered_in_the_same_conversation(stage: Stage) -> None:
    stage.record(
        {
            "say": "Hm.",
            "use": [use("ask_human", reason="Which currency?")],
            "next": [{"contains": "euros", "go": "in"}],
        },
        {"id": "deaf", "say": "I heard nothing."},
        {"id": "in", "say": "In euros then.", "use": [bash("echo EUR > currency")]},
        DONE,
    )
    async with stage.rehearsing(), stage.agent() as agent:
        assert (await agent.generate(stage.work(), OPENING, 1)).end == "needs_human"
        assert await agent.carry_on(second(stage), 1)
        # Killed before the loop noted it.
        assert await agent.carry_on(second(stage), 1)
        stage.board.notes.append(Note(1, "euros"))
        assert await agent.generate(second(stage), GO, 1) == Generated("done", "Done.", noted=True)
        # Once there is an own turn, it is not played again, and nothing is taken over again.
        assert await agent.carry_on(second(stage), 1)
        assert await agent.generate(second(stage), GO, 1) == Generated("done", "Done.", noted=True)
    assert len(stage.meter.calls) == 3
    now, before = transcript(stage), transcript(stage, "one")
    assert now.entries[: now.carried] == before.entries
    assert [entry.origin for entry in now.own] == ["loop", "user", "agent", "tools", "agent"]
    assert flaw(now.messages()) is None
    assert "payments said: no currency" in text_of(now.own[0].message)


async def test_turns_circles_and_warnings_of_the_attempt_before_count_for_nothing(stage: Stage) -> None:
    stage.settings = AgentSettings(kind="rehearsal", turns=12)
    stage.record({"id": "again", "use": [bash("cat app.py")], "next": [{"go": "again"}]})
    async with stage.rehearsing():
        async with stage.agent(limited(calls=7)) as agent:
            assert (await agent.generate(stage.work(), OPENING, 1)).end == "out_of_budget"
        async with stage.agent(limited(calls=9)) as agent:
            assert await agent.carry_on(second(stage), 1)
            ended = await agent.generate(second(stage), GO, 1)
    assert ended == Generated("stuck", "the same tool call 8 times in a row, with the same result")
    told = [text_of(entry.message)[:30] for entry in transcript(stage).own if entry.origin == "harness"]
    assert told == ["You have made the same call 4 ", "The budget of this ticket is n"]


async def test_where_nothing_was_said_there_is_nothing_to_carry_on(stage: Stage) -> None:
    stage.record(DONE)
    async with stage.rehearsing(), stage.agent() as agent:
        assert not await agent.carry_on(second(stage), 1)
        transcript(stage, "one")
        assert not await agent.carry_on(second(stage), 1)
        assert (await agent.generate(second(stage), OPENING, 1)).end == "done"
        # It has begun by itself.
        stage.record(DONE)
        assert (await agent.generate(stage.work(), OPENING, 1)).end == "done"
        assert not await agent.carry_on(second(stage), 1)


def test_a_call_without_its_result_and_half_a_line_are_mended(tmp_path: Path) -> None:
    first = Transcript.open(tmp_path, "run", "one")
    first.add("loop", [{"type": "text", "text": OPENING}], iteration=3)
    first.add("agent", [{"type": "tool_use", "id": "a", "name": "bash", "input": {}}], stop_reason="tool_use")
    with first.path.open("ab") as file:
        file.write(b'{"origin": "tools", "ro')
    left = tmp_path / "run" / "one@2.jsonl.new"
    left.write_text("of a copy that was broken off\n")
    assert carry_over(tmp_path, "run", "one", "one@2")
    again = Transcript.open(tmp_path, "run", "one@2")
    assert (again.carried, len(again.entries), again.own) == (2, 2, [])
    again.add("loop", [{"type": "text", "text": GO}], iteration=1)
    assert flaw(again.messages()) is None
    third = tmp_path / "run" / "one@3.jsonl"
    assert carry_over(tmp_path, "run", "one@2", "one@3")
    assert Transcript.open(tmp_path, "run", "one@3").carried == 3
    assert third.read_bytes().split(b"\n")[1:] == again.path.read_bytes().split(b"\n")[1:]
    assert not left.exists()
