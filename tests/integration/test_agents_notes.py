"""What the user says to an agent at work: heard once, before the next call, wherever the agent was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from graphs.ports import Generated, Stopped, Work
from harness.agents.conversation import flaw
from harness.agents.transcript import Transcript
from harness.store.notes import Note
from tests.integration.test_agents_loop import DONE, OPENING, Board, Stage, bash, limited

EUROS = Note(7, "take euros, not dollars\nand tell nobody")
TOLD = f"A note from the user, who watches your work on this ticket:\n\n{EUROS.text}"


@pytest.fixture
def stage(tmp_path: Path, make_repo: Callable[[Mapping[str, str]], Path]) -> Stage:
    return Stage(tmp_path, make_repo({"app.py": "print('hello')\n"}))


def left_at_call(stage: Stage, number: int, note: Note = EUROS) -> Callable[[str], None]:
    """Leaves the note as this call of the model is about to be made."""
    calls = iter(range(1, 100))
    return lambda _: stage.board.notes.append(note) if next(calls) == number else None


async def test_a_note_is_heard_before_the_next_call_and_once(stage: Stage) -> None:
    stage.record(
        {"use": [bash("true")], "next": [{"contains": TOLD, "go": "too-soon"}, {"go": "more"}]},
        {"id": "more", "use": [bash("echo 1")], "next": [{"contains": TOLD, "go": "heard"}, {"go": "deaf"}]},
        {"id": "heard", "use": [bash("echo 2")], "next": [{"contains": TOLD, "go": "twice"}, {"go": "done"}]},
        *({"id": name, "say": name} for name in ("too-soon", "deaf", "twice")),
        DONE,
    )
    async with stage.rehearsing(), stage.agent(limited(before_call=left_at_call(stage, 2))) as agent:
        assert await agent.generate(stage.work(), OPENING, 1) == Generated("done", "Done.", noted=True)
    assert stage.said_by("user") == [TOLD]
    assert stage.board.told_ids == [7]
    assert flaw(Transcript.open(stage.folder / "transcripts", "run", "one").messages()) is None


async def test_a_note_that_waits_comes_right_behind_the_ticket(stage: Stage) -> None:
    stage.board.notes.append(EUROS)
    stage.record({"use": [bash("true")]}, DONE, {"say": "And again."})
    async with stage.rehearsing(), stage.agent() as agent:
        assert (await agent.generate(stage.work(), OPENING, 1)).noted
        # A further iteration in which the user said nothing.
        assert await agent.generate(stage.work(), "evidence", 2) == Generated("done", "And again.")
    assert stage.calls_before(TOLD) == 0


class Dying(Board):
    """Stops its owner when the note is in the transcript, and nobody has been told so."""

    async def told(self, work: Work, notes: Sequence[Note]) -> None:
        raise Stopped


async def test_what_is_in_the_transcript_is_not_told_again(stage: Stage) -> None:
    stage.record({"use": [bash("true")]}, DONE)
    stage.board = Dying([EUROS])
    async with stage.rehearsing():
        async with stage.agent() as agent:
            with pytest.raises(Stopped):
                await agent.generate(stage.work(), OPENING, 1)
        stage.board = Board([EUROS])
        async with stage.agent() as agent:
            ended = await agent.generate(stage.work(), OPENING, 1)
            # The turn had ended: what the loop hears of it is the same.
            assert await agent.generate(stage.work(), OPENING, 1) == ended == Generated("done", "Done.", noted=True)
    assert stage.said_by("user") == [TOLD]
    assert stage.board.told_ids == [7]


async def test_whoever_went_in_a_circle_is_given_another_chance_by_a_note(stage: Stage) -> None:
    stage.record({"id": "again", "use": [bash("cat app.py")], "next": [{"go": "again"}]})
    async with stage.rehearsing(), stage.agent(limited(before_call=left_at_call(stage, 7))) as agent:
        ended = await agent.generate(stage.work(), OPENING, 1)
    assert ended == Generated("stuck", "the same tool call 8 times in a row, with the same result", noted=True)
    # Seven in a row, the note, and eight more.
    assert stage.calls_before(TOLD) == 7
    assert (
        sum(entry.origin == "agent" for entry in Transcript.open(stage.folder / "transcripts", "run", "one").entries)
        == 15
    )
