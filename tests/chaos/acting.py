"""Projects of one ticket whose agent listens, waits, asks or fails: what a person does to agents is tried on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from harness.agents.transcript import FIRST, Transcript, current
from tests.chaos.stage import Stage, staged
from tests.conftest import commit_all

WORDS: Final = "take the word of the ticket"


def write(word: str) -> str:
    return f"{{tool: write, input: {{file_path: b/word.txt, content: {word}}}}}"


LISTENING: Final = f"""\
ticket: loud-0
turns:
  - {{id: wait, say: I wait., use: [{{tool: bash, input: {{command: sleep 0.7}}}}], next: [
      {{contains: {WORDS}, go: heard}}, {{go: wait}}]}}
  - {{id: heard, say: I do., use: [{write("LOUD-0")}], next: [{{contains: {WORDS}, go: twice}}, {{go: done}}]}}
  - {{id: twice, say: I heard it twice.}}
  - {{id: done, say: It is done.}}
"""
# Longer than a store lets an event wait that nobody waits for: a kill after it finds the first call counted.
WAITING: Final = f"""\
ticket: loud-0
turns:
  - {{say: I wait., use: [{{tool: bash, input: {{command: sleep 0.5}}}}]}}
  - {{say: I do., use: [{write("LOUD-0")}]}}
  - {{say: It is done.}}
"""
ASKING: Final = f"""\
ticket: asks-0
turns:
  - {{say: I begin., use: [{write("half")}, {{tool: ask_human, input: {{reason: Which word?}}}}], next: [
      {{contains: {WORDS}, go: heard}}, {{go: deaf}}]}}
  - {{id: deaf, say: I heard nothing.}}
  - {{id: heard, say: I look first., use: [{{tool: read, input: {{file_path: b/word.txt}}}}], next: [
      {{contains: half, go: do}}, {{go: deaf}}]}}
  - {{id: do, say: I do., use: [{write("ASKS-0")}]}}
  - {{say: It is done.}}
"""
MEDDLING: Final = ASKING.replace("b/word.txt, content: ASKS-0", "checks/all.yaml, content: none")
FAILING: Final = f"""\
ticket: mute-0
turns:
  - {{say: I guess., use: [{write("one")}]}}
  - {{say: It is done.}}
  - {{say: I guess again., use: [{write("two")}]}}
  - {{say: It is done., next: [{{matches: "(?s)expected.*{WORDS}", go: heard}}, {{go: deaf}}]}}
  - {{id: deaf, say: I heard nothing.}}
  - {{id: heard, say: I do., use: [{write("MUTE-0")}]}}
  - {{say: It is done.}}
"""


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A project whose one ticket plays the recording of the test."""
    recording: str = request.param
    name = recording.split()[1]
    with staged((name,)) as one:
        (one.root / "recordings" / f"{name}.yaml").write_text(recording)
        commit_all(one.root, "how it goes")
        yield one


def shown(stage: Stage, ticket: str) -> dict[str, Any]:
    ran = stage.run("runs", "show", "-t", ticket, "--json")
    assert ran.code == 0, ran
    document: dict[str, Any] = ran.objects[-1]
    return document


def transcript(stage: Stage, name: str) -> Transcript:
    (run,) = [path.name for path in (stage.state / "transcripts").iterdir()]
    path = current(stage.state / "transcripts", run, name)
    return Transcript.open(stage.state / "transcripts", run, name, int(path.stem.partition("~")[2] or FIRST))
