"""A recording that cannot be played is one clear error with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.agents.conversation import text_block, tool_result
from harness.agents.rehearsal.record import recording_of, write_recording
from harness.agents.rehearsal.recording import read_recording, read_recordings
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


def test_a_transcript_becomes_a_recording(tmp_path: Path) -> None:
    transcript = Transcript.open(tmp_path, "run", "one")
    transcript.add("loop", [text_block("Ticket one: do it")])
    source = "def f():\n    return 'no: yes'\n"
    given = {"file_path": "app.py", "content": source}
    use = {"type": "tool_use", "id": "toolu_1", "name": "write", "input": given}
    transcript.add("agent", [text_block("I write."), use], stop_reason="tool_use")
    transcript.add("tools", [tool_result("toolu_1", "wrote")])
    transcript.add("agent", [text_block("Done: 1")], stop_reason="end_turn")
    path = tmp_path / "recordings" / "one.yaml"
    write_recording(recording_of("one", read(transcript.path)), path)
    recording = read_recording(path)
    assert [turn.say for turn in recording.turns] == ["I write.", "Done: 1"]
    assert recording.turns[0].use[0].input == given


def test_a_transcript_without_a_word_of_the_agent_is_none(tmp_path: Path) -> None:
    transcript = Transcript.open(tmp_path, "run", "one")
    with pytest.raises(ValueError, match="said nothing"):
        recording_of("one", read(transcript.path))
