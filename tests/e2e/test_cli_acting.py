"""What a person does to agents, from the command line, on real runs: nothing is told twice, nothing is judged less."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Final

import pytest

from harness.project import read_project
from harness.runtime import opened_store
from harness.store.runs import Runs
from tests.chaos.acting import FAILING, LISTENING, MEDDLING, WAITING, WORDS, shown, stage, transcript
from tests.chaos.asking import asked
from tests.chaos.stage import Point, Stage, ended
from tests.conftest import commit_all

__all__ = ["stage"]

pytestmark = pytest.mark.timeout(600)

TRANSCRIPT: Final = "harness.agents.transcript:Transcript"

JOURNAL: Final = "harness.store.journal:StoreJournal"
VALIDATOR: Final = "harness.validation.validator:LoopValidator"


def leases(stage: Stage) -> list[float]:
    """How long each sandbox of the project still lives, in seconds; the baseline that it needs does too."""
    left_s = [one.lease_ends - time.time() for one in asked(stage, lambda driver: driver.list())]
    baseline = asked(stage, lambda driver: driver.baseline())
    assert baseline is not None
    assert baseline.lease_ends is not None
    assert baseline.lease_ends - time.time() > max(left_s) - 60
    return left_s


@pytest.mark.parametrize("stage", [WAITING], indirect=True, ids=[""])
def test_a_sandbox_is_kept_as_wished_though_its_run_is_killed(stage: Stage) -> None:
    assert stage.run("run", at=(f"{TRANSCRIPT}.add[tools]", "after", 1)).code == -9
    ran = stage.run("runs", "keep", "last", "-t", "loud-0", "--for", "5h")
    assert (ran.code, "to be kept for 5 h from now on, when it ends" in ran.out) == (0, True), ran
    assert stage.run("runs", "resume", at=(f"{VALIDATOR}.release", "before", 1)).code == -9
    assert stage.run("runs", "resume").code == 0
    (left_s,) = leases(stage)
    assert 4 * 3600 < left_s <= 5 * 3600
    (name,) = [one.name for one in asked(stage, lambda driver: driver.list())]
    answer = stage.run("request", "--sandbox", name, "GET", "/", "--json")
    assert "LOUD-0" in answer.out, answer
    # It has ended, and still lives: more can be had, and less is not taken.
    assert stage.run("runs", "keep", "last", "-t", "loud-0", "--for", "1h").code == 0
    assert leases(stage)[0] > 4 * 3600
    ran = stage.run("runs", "keep", "last", "-t", "loud-0", "--for", "9h", "--json")
    assert (ran.code, ran.objects[-1]["now"]) == (0, ["loud-0"]), ran
    assert leases(stage)[0] > 8 * 3600
    assert stage.run("sandbox", "delete", name).code == 0
    ran = stage.run("runs", "keep", "last", "-t", "loud-0")
    assert (ran.code, "the sandbox is gone: loud-0" in ran.err) == (2, True), ran


def keeping(stage: Stage) -> None:
    """Have the project keep the sandbox of what is verified."""
    settings = stage.root / "spurline.yaml"
    settings.write_text(settings.read_text() + "submit: {keep_sandbox: true}\n")
    commit_all(stage.root, "keep what is verified")


@pytest.mark.chaos
@pytest.mark.parametrize("stage", [WAITING], indirect=True, ids=[""])
@pytest.mark.parametrize("at", [(f"{VALIDATOR}.release", "before", 1), (f"{JOURNAL}.move[submitting]", "after", 1)])
def test_what_is_verified_is_kept_as_configured_though_its_run_is_killed(stage: Stage, at: Point) -> None:
    keeping(stage)
    assert stage.run("run", at=at).code == -9
    assert stage.run("runs", "resume").code == 0
    (left_s,) = leases(stage)
    assert left_s > 1000


@pytest.mark.chaos
@pytest.mark.parametrize("stage", [WAITING], indirect=True, ids=[""])
def test_a_sandbox_that_is_kept_outlives_a_cancel(stage: Stage) -> None:
    assert stage.run("run", at=(f"{VALIDATOR}.validate", "after", 1)).code == -9
    ran = stage.run("runs", "keep", "last", "-t", "loud-0", "--for", "5h", "--json")
    assert (ran.code, ran.objects[-1]["now"]) == (0, ["loud-0"]), ran
    assert leases(stage)[0] > 4 * 3600
    assert stage.run("runs", "cancel").code == 0
    assert stage.states() == {"loud-0": "cancelled"}
    assert leases(stage)[0] > 4 * 3600


async def wished_while_it_was_worked_on(stage: Stage, for_s: float) -> None:
    project = read_project(stage.root)
    async with opened_store(project) as database:
        runs = Runs(database)
        await runs.keep((await runs.find("last")).id, ["loud-0"], time.time() + for_s)


@pytest.mark.parametrize("stage", [WAITING], indirect=True, ids=[""])
def test_what_was_to_be_kept_when_it_ended_is_kept_with_its_baseline_by_a_cancel(stage: Stage) -> None:
    assert stage.run("run", at=(f"{VALIDATOR}.validate", "after", 1)).code == -9
    asyncio.run(wished_while_it_was_worked_on(stage, 5 * 3600))
    assert leases(stage)[0] < 3600
    assert stage.run("runs", "cancel").code == 0
    assert leases(stage)[0] > 4 * 3600


@pytest.mark.parametrize("stage", [WAITING], indirect=True, ids=[""])
def test_a_budget_that_was_too_small_is_raised_and_the_work_goes_on(stage: Stage) -> None:
    assert stage.run("run", at=(f"{TRANSCRIPT}.add[tools]", "after", 1)).code == -9
    ran = stage.run("runs", "limit", "last", "-t", "loud-0", "--ticket-calls", "1")
    assert (ran.code, "loud-0: ticket calls 1" in ran.out) == (0, True), ran
    assert stage.run("runs", "resume").code == 1
    assert stage.rows("SELECT reason FROM agents") == [("out of budget: the ticket's 1 model calls are spent",)]
    # Of all tickets, it would leave this one's own as it is.
    for options in (["--ticket-calls", "9"], ["-t", "loud-0", "--ticket-calls", "2"]):
        assert stage.run("runs", "limit", "last", *options).code == 0
    assert stage.run("runs", "retry", "last", "--carry-on").code == 0
    ran = stage.run("runs", "resume")
    assert ran.code == 0, ran
    assert stage.rows("SELECT model_calls FROM agents") == [(2,)]
    refused = stage.run("runs", "limit", "last", "-t", "loud-0", "--agents", "2")
    assert (refused.code, "--agents is the whole run's" in refused.err) == (2, True), refused


@pytest.mark.parametrize("stage", [LISTENING], indirect=True, ids=[""])
def test_an_agent_at_work_hears_a_note_once_and_what_it_made_is_kept_as_configured(stage: Stage) -> None:
    keeping(stage)
    with stage.stopped("run", at=(f"{TRANSCRIPT}.add[agent]", "after", 1)) as process:
        stage.standing_still(process)
        ran = stage.run("runs", "note", "last", "-t", "loud-0", *WORDS.split())
        assert (ran.code, "noted for loud-0" in ran.out) == (0, True), ran
        assert "not told yet" in stage.run("runs", "show", "-t", "loud-0").out
    assert ended(process).code == 0
    assert shown(stage, "loud-0")["state"] == "verified"
    assert "told " in stage.run("runs", "show", "-t", "loud-0").out
    assert [entry.note for entry in transcript(stage, "loud-0").entries if entry.origin == "user"] == [1]
    (left_s,) = leases(stage)
    assert left_s > 1000
    # Nobody listens any more.
    late = stage.run("runs", "note", "last", "-t", "loud-0", "and hurry")
    assert (late.code, "'loud-0' is verified" in late.err) == (2, True), late


@pytest.mark.parametrize("stage", [FAILING], indirect=True, ids=[""])
def test_who_was_out_of_budget_carries_on_with_what_it_had_yet_to_hear(stage: Stage) -> None:
    assert stage.run("run").code == 1
    assert stage.states() == {"mute-0": "failed"}
    refused = stage.run("runs", "answer", "last", "-t", "mute-0", WORDS)
    assert (refused.code, "'mute-0' is failed: only who asked a human is answered" in refused.err) == (2, True)
    ran = stage.run("runs", "retry", "last", "-t", "mute-0", "--carry-on", "--note", WORDS)
    assert ran.code == 0, ran
    ran = stage.run("runs", "resume")
    assert ran.code == 0, ran
    document = shown(stage, "mute-0")
    assert (document["state"], document["iterations"], document["failed_verdicts"]) == ("verified", 1, 0)
    ((before,),) = stage.rows("SELECT document FROM attempts")
    assert json.loads(before)["state"] == "failed"
    assert Path(stage.root / "b" / "word.txt").read_text() == "b"


@pytest.mark.parametrize("stage", [MEDDLING], indirect=True, ids=[""])
def test_an_answer_opens_no_way_round_what_is_protected(stage: Stage) -> None:
    assert stage.run("run").code == 1
    assert stage.run("runs", "answer", "last", "-t", "asks-0", WORDS, "and change the checks").code == 0
    assert stage.run("runs", "resume").code == 1
    document = shown(stage, "asks-0")
    assert (document["state"], document["attempt"]) == ("needs_human", 2)
    assert "checks/all.yaml" in document["reason"]
