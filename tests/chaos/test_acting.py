"""Killed in the middle of what a person does to agents: nothing is told twice or lost, and nothing is judged less."""

from __future__ import annotations

from typing import Final

import pytest

from tests.chaos.acting import ASKING, LISTENING, WORDS, shown, stage, transcript
from tests.chaos.stage import Point, Stage
from tests.conftest import git

__all__ = ["stage"]

pytestmark = pytest.mark.timeout(600)

TRANSCRIPT: Final = "harness.agents.transcript:Transcript"
NOTES: Final = "harness.store.notes:Notes"
AGENT: Final = "harness.agents.anthropic.agent:AnthropicAgent"
WORKTREES: Final = "harness.repository.worktrees:Worktrees"


@pytest.mark.chaos
@pytest.mark.parametrize("stage", [LISTENING], indirect=True, ids=[""])
@pytest.mark.parametrize(
    "at",
    [
        (f"{TRANSCRIPT}.add[user]", "before", 1),
        (f"{TRANSCRIPT}.add[user]", "after", 1),
        (f"{NOTES}.told", "before", 1),
        (f"{NOTES}.told", "after", 1),
    ],
)
def test_a_note_is_heard_once_whenever_its_run_is_killed(stage: Stage, at: Point) -> None:
    assert stage.run("run", at=(f"{TRANSCRIPT}.add[tools]", "after", 1)).code == -9
    assert stage.run("runs", "note", "last", "-t", "loud-0", "-", stdin=WORDS + "\n").code == 0
    assert stage.run("runs", "resume", at=at).code == -9
    ran = stage.run("runs", "resume")
    assert ran.code == 0, ran
    (note,) = shown(stage, "loud-0")["notes"]
    assert (note["text"], note["told_at"] is not None) == (WORDS, True)
    assert [entry.note for entry in transcript(stage, "loud-0").entries if entry.origin == "user"] == [1]


@pytest.mark.parametrize("stage", [ASKING], indirect=True, ids=[""])
@pytest.mark.parametrize(
    "at",
    [
        pytest.param(None, marks=pytest.mark.chaos),
        pytest.param((f"{WORKTREES}.prepare", "after", 1), marks=pytest.mark.chaos),
        pytest.param((f"{AGENT}.carry_on", "after", 1), marks=pytest.mark.chaos),
        pytest.param((f"{TRANSCRIPT}.add[loop]", "after", 1), marks=pytest.mark.chaos),
        (f"{TRANSCRIPT}.add[user]", "after", 1),
    ],
)
def test_an_answer_carries_on_to_verified(stage: Stage, at: Point | None) -> None:
    assert stage.run("run").code == 1
    assert stage.states() == {"asks-0": "needs_human"}
    refused = stage.run("runs", "note", "last", "-t", "asks-0", WORDS)
    assert (refused.code, "spurline runs answer" in refused.err) == (2, True), refused
    ran = stage.run("runs", "answer", "last", "-t", "asks-0", WORDS, "--json")
    assert (ran.code, ran.objects[-1]["answered"]) == (0, ["asks-0"]), ran
    if at is not None:
        assert stage.run("runs", "resume", at=at).code == -9
    ran = stage.run("runs", "resume")
    assert ran.code == 0, ran
    document = shown(stage, "asks-0")
    assert (document["state"], document["attempt"], document["carries_on"]) == ("verified", 2, 1)
    assert document["branch"].endswith("/asks-0@2")
    assert git(stage.root, "show", f"{document['commit']}:b/word.txt") == "ASKS-0"
    assert document["model_calls"] == 3
    said = transcript(stage, "asks-0@2")
    assert [entry.origin for entry in said.entries[:3]] == ["loop", "agent", "tools"]
    assert [entry.origin for entry in said.own] == ["loop", "user", "agent", "tools", "agent", "tools", "agent"]
    (record,) = stage.state.glob("runs/*/*/record.json")
    assert stage.run("verify", str(record)).code == 0
    stage.assert_nothing_left()
