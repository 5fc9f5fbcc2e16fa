"""A recording that cannot be played is one clear error with file, line and key."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agents.conversation import Block, text_block, tool_result
from harness.agents.rehearsal.record import NOTHING, recording_of, written
from harness.agents.rehearsal.recording import Recording, ToolCall, Turn, read_recording, read_recordings
from harness.agents.transcript import Transcript, read
from tasks.errors import ConfigError

GOOD = """\
ticket: users-v2
turns:
  - id: look
    say: I look first.
    use:
      - {tool: read, input: {file_path: app.py}}
    next:
      - {contains: get_user, go: change}
      - {go: look}
  - id: change
    say: Done.
"""


@pytest.mark.parametrize(
    ("old", "new", "place", "said", "hint"),
    [
        ("go: look}", "go: lok}", "9 at 'turns.0.next.1.go'", "no turn has the id 'lok'", "ids: look, change"),
        ("id: change", "id: look", "10 at 'turns.1.id'", "two turns have the id 'look'", ""),
        ("say: Done.", "sya: Done.", "11 at 'turns.1.sya'", "unknown key", "did you mean 'say'?"),
        ("say: Done.", "say: ''", "10 at 'turns.1'", "a turn needs 'say' or 'use'", ""),
        ("{contains: get_user, go: change}", "{matches: '(', go: change}", "8", "must be a regular expression", ""),
        ("ticket: users-v2", "ticket: ../x", "1 at 'ticket'", "must be 1 to 80", ""),
        ("input: {file_path: app.py}", "input: app.py", "6", "dictionary", ""),
    ],
)
def test_errors_name_the_place(tmp_path: Path, old: str, new: str, place: str, said: str, hint: str) -> None:
    path = tmp_path / "users-v2.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as raised:
        read_recording(path)
    assert str(raised.value).startswith(f"{path}:{place}")
    assert said in str(raised.value)
    assert hint in raised.value.hint


def test_a_good_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    recording = read_recordings(tmp_path)["users-v2"]
    assert [turn.stop_reason for turn in recording.turns] == ["tool_use", "end_turn"]


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recordings"):
        read_recordings(tmp_path / "absent")


def test_two_recordings_of_one_ticket_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"b\.yaml.*another file records 'users-v2'"):
        read_recordings(tmp_path)


ROOT = Path("/home/ada/shop")
WORKTREE = ROOT / ".spurline" / "worktrees" / "20260101-000000-abcd" / "one"


def recorded(transcript: Transcript, path: Path) -> Recording:
    """The transcript's recording, put into `path` and read from there."""
    recording = recording_of("one", read(transcript.path), root=ROOT, worktree=WORKTREE)
    path.write_text(written(recording, path))
    assert read_recording(path) == recording
    return recording


def called(number: int, tool: str, **given: Any) -> Block:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": tool, "input": given}


@pytest.fixture
def transcript(tmp_path: Path) -> Transcript:
    opened = Transcript.open(tmp_path, "run", "one")
    opened.add("loop", [text_block("Ticket one: do it")])
    return opened


def test_a_transcript_becomes_a_recording(transcript: Transcript, tmp_path: Path) -> None:
    given = {"file_path": "app.py", "content": "def f():\n    return 'no: yes'\n"}
    transcript.add("agent", [text_block("I write."), called(1, "write", **given)], stop_reason="tool_use")
    transcript.add("tools", [tool_result("toolu_1", "wrote")])
    transcript.add("agent", [text_block("Done: 1")], stop_reason="end_turn")
    recording = recorded(transcript, tmp_path / "one.yaml")
    assert [turn.say for turn in recording.turns] == ["I write.", "Done: 1"]
    assert recording.turns[0].use[0].input == given
    assert "          content: |\n            def f():\n" in (tmp_path / "one.yaml").read_text()


def test_turns_stop_as_they_did(transcript: Transcript, tmp_path: Path) -> None:
    for said, stop in (("Well", "max_tokens"), ("", "end_turn"), ("No.", "refusal"), ("So", "end_turn")):
        transcript.add("agent", [text_block(said)] if said else [], stop_reason=stop)
    turns = recorded(transcript, tmp_path / "one.yaml").turns
    assert [(turn.say, turn.stop_reason) for turn in turns] == [
        ("Well", "max_tokens"),
        (NOTHING, "end_turn"),
        ("No.", "refusal"),
        ("So", "end_turn"),
    ]


def test_a_recording_does_not_know_where_it_was_made(transcript: Transcript, tmp_path: Path) -> None:
    calls = [
        called(1, "read", file_path=f"{WORKTREE}/a/app.py", view_range=[1, 2]),
        called(2, "bash", command=f"cd {WORKTREE}/a && cat {WORKTREE}/b/word.txt"),
        called(3, "glob", pattern="*.py", path=str(ROOT)),
    ]
    transcript.add("agent", [text_block(f"I look into {WORKTREE}."), *calls], stop_reason="tool_use")
    (turn,) = recorded(transcript, tmp_path / "one.yaml").turns
    assert turn.say == "I look into .."
    read_call, command, glob = turn.use
    assert read_call.input == {"file_path": "./a/app.py", "view_range": [1, 2]}
    assert glob.input == {"pattern": "*.py", "path": "."}
    elsewhere = tmp_path / "elsewhere"
    for name in ("a", "b"):
        (elsewhere / name).mkdir(parents=True)
    (elsewhere / "b" / "word.txt").write_text("found")
    done = subprocess.run(["bash", "-c", command.input["command"]], cwd=elsewhere, capture_output=True, check=True)
    assert done.stdout == b"found"


TEXT = st.text() | st.from_regex(r"( *[-#:a-z]* *\n){1,4}[ a-z]*\n*", fullmatch=True)


@given(say=TEXT, given=st.dictionaries(st.sampled_from(["content", "path"]), TEXT | st.integers() | st.none()))
def test_what_is_written_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, say: str, given: dict[str, Any]
) -> None:
    recording = Recording(ticket="one", turns=(Turn(say=say, use=(ToolCall(tool="write", input=given),)),))
    path = tmp_path_factory.getbasetemp() / "one.yaml"
    try:
        text = written(recording, path)
    except ConfigError:
        assert "\0" in say or any("\0" in str(value) for value in given.values())
        return
    path.write_bytes(text.encode())
    assert read_recording(path) == recording


def test_a_transcript_without_a_word_of_the_agent_is_none(transcript: Transcript) -> None:
    with pytest.raises(ValueError, match="said nothing"):
        recording_of("one", read(transcript.path), root=ROOT, worktree=WORKTREE)
