"""kill -9 of a run at every node's start, middle and end: nothing is lost, nothing is done twice, nothing is left."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import pytest

from sandbox.filelock import taken
from tests.chaos.accounts import TWENTY, Account, alike, gone_on, worked
from tests.chaos.seeds import SEED
from tests.chaos.stage import CHECKED, FINAL, Point, Stage, ended, staged
from tests.chaos.stories import names

pytestmark = pytest.mark.timeout(3000)

JOURNAL: Final = "harness.store.journal:StoreJournal"
WORKTREES: Final = "harness.repository.worktrees:Worktrees"
REPOSITORY: Final = "harness.repository.repository:Repository"
TRANSCRIPT: Final = "harness.agents.transcript:Transcript"
KEEPER: Final = "sandbox.local.client:KeeperDriver"
VALIDATOR: Final = "harness.validation.validator:LoopValidator"
COURT: Final = "harness.validation.trial:Court"
EFFECTS: Final = "harness.store.effects:StoreEffects"
SAVER: Final = "harness.store.checkpoints:_Asked"
CLAIMS: Final = "harness.store.claims:Claims"

MIDDLE: Final[tuple[Point, ...]] = (
    (f"{KEEPER}.fork", "after", 1),
    (f"{REPOSITORY}.attach_note", "after", 1),
    (f"{CLAIMS}.end", "before", 1),
)
"""In the middle of a start and of a submission, and when all had ended."""

FEW: Final[tuple[Point, ...]] = (
    ("harness.repository.git:Git.own[read-tree]", "before", 3),
    (f"{TRANSCRIPT}.add[agent]", "before", 4),
    (f"{REPOSITORY}.move_branch", "after", 2),
    (f"{KEEPER}.fork", "after", 1),
    (f"{KEEPER}.plant", "after", 1),
    ("harness.validation.baseline:BaselineBook.confirm", "after", 1),
    (f"{REPOSITORY}.attach_note", "after", 1),
    (f"{JOURNAL}.move[verified]", "before", 1),
)
"""One a node, each in the middle of what it does outside."""

ALL: Final[tuple[Point, ...]] = (
    (f"{CLAIMS}.begin", "after", 1),
    (f"{CLAIMS}.take", "after", 1),
    (f"{JOURNAL}.move[preparing]", "after", 2),
    ("harness.repository.git:Git.user[worktree]", "after", 5),
    ("harness.repository.git:Git.own[read-tree]", "before", 3),
    (f"{WORKTREES}.prepare", "after", 3),
    (f"{JOURNAL}.move[generating]", "after", 4),
    (f"{TRANSCRIPT}.add[loop]", "after", 4),
    (f"{TRANSCRIPT}.add[agent]", "before", 4),
    (f"{TRANSCRIPT}.add[agent]", "after", 4),
    (f"{TRANSCRIPT}.add[tools]", "before", 4),
    (f"{REPOSITORY}.move_branch", "before", 2),
    (f"{REPOSITORY}.move_branch", "after", 2),
    (f"{SAVER}.aput", "before", 9),
    (f"{SAVER}.aput", "after", 9),
    (f"{VALIDATOR}.static", "before", 2),
    (f"{VALIDATOR}.static", "after", 2),
    (f"{JOURNAL}.move[instantiating]", "after", 1),
    (f"{KEEPER}.create", "after", 1),
    (f"{KEEPER}.fork", "before", 2),
    (f"{KEEPER}.fork", "after", 1),
    (f"{VALIDATOR}.instantiate", "after", 1),
    (f"{COURT}.hear", "before", 1),
    (f"{COURT}._run", "before", 2),
    (f"{COURT}._run", "after", 2),
    (f"{KEEPER}.plant", "after", 1),
    ("harness.validation.baseline:BaselineBook.confirm", "before", 1),
    ("harness.validation.baseline:BaselineBook._asked_in", "after", 2),
    ("harness.validation.baseline:BaselineBook.confirm", "after", 1),
    ("harness.store.documents:Verdicts.save", "after", 1),
    (f"{VALIDATOR}.validate", "after", 1),
    ("harness.store.documents:Messages.keep", "after", 1),
    (f"{EFFECTS}._note[intent]", "after", 1),
    (f"{EFFECTS}._note[observed]", "before", 1),
    (f"{REPOSITORY}.attach_note", "before", 1),
    (f"{REPOSITORY}.attach_note", "after", 1),
    (f"{EFFECTS}.once", "after", 2),
    (f"{VALIDATOR}.release", "before", 1),
    (f"{VALIDATOR}.release", "after", 1),
    (f"{WORKTREES}.release", "before", 1),
    (f"{WORKTREES}.release", "after", 1),
    (f"{JOURNAL}.move[verified]", "before", 1),
    (f"{JOURNAL}.move[verified]", "after", 1),
    (f"{CLAIMS}.end", "before", 1),
)

FOUR: Final = names(loud=1, mend=1, mute=1, asks=1)
HUNDRED: Final = names(loud=22, mend=10, keep=10, mute=5, lint=10, asks=43)
CHAINS: Final = 4


@pytest.fixture(scope="module")
def of_four() -> Iterator[Account]:
    with staged(FOUR) as stage:
        yield worked(stage)


@pytest.fixture(scope="module")
def of_twenty() -> Iterator[Account]:
    with staged(TWENTY) as stage:
        yield worked(stage)


@pytest.fixture(scope="module")
def of_hundred() -> Iterator[Account]:
    with staged(HUNDRED) as stage:
        yield worked(stage)


def killed_at(stage: Stage, kills: Sequence[Point]) -> tuple[Point, ...]:
    """Begin the run, and take it up again after each of the kills, until it ends: tickets are quicker than each other
    by chance, so that the last place may have been passed before. The kills that were not reached then."""
    command: tuple[str, ...] = ("run",)
    for number, kill in enumerate(kills):
        ran = stage.run(*command, "--json", at=kill)
        if ran.code == 1:
            assert ran.objects[-1]["event"] == "run.finished", ran
            return tuple(kills[number:])
        assert ran.code == -signal.SIGKILL, (kill, ran)
        command = going_on(stage)
    return ()


def killed_everywhere(tickets: Sequence[str], kills: Sequence[Point], clean: Account) -> None:
    """Kill at every one of the places, in as many runs as that takes; each comes to what the clean one does."""
    left = tuple(kills)
    while left:
        with staged(tickets) as stage:
            before, left = left, killed_at(stage, left)
            assert left != before
            gone_on(stage, clean)


def killed_by_chance(stage: Stage, seed: int, times: int, most: int) -> None:
    """Kill so many processes in a row, each after it has said any number of lines up to `most`."""
    chance = random.Random(seed)
    command: tuple[str, ...] = ("run",)
    for _ in range(times):
        process = stage.start(*command, "--json")
        assert process.stdout is not None
        for _ in range(chance.randint(1, most)):
            process.stdout.readline()
        process.kill()
        ended(process)
        command = going_on(stage)


def going_on(stage: Stage) -> tuple[str, ...]:
    # One that was killed before it had noted its run has nothing to be taken up.
    return ("runs", "resume") if stage.states() else ("run",)


def test_killed_in_the_middle_and_when_all_had_ended(of_four: Account) -> None:
    left = MIDDLE
    while left:
        with staged(FOUR) as stage:
            before, left = left, killed_at(stage, left)
            assert left != before
            if not left:
                # It still leaves.
                assert set(stage.states().values()) <= set(FINAL)
                assert stage.run("runs", "resume").code == 1
                assert stage.rows("SELECT state FROM runs") == [("finished",)]
            gone_on(stage, of_four)
            assert stage.run("runs", "resume").code == 2


@pytest.mark.chaos
def test_killed_in_the_middle_of_every_node(of_twenty: Account) -> None:
    killed_everywhere(TWENTY, FEW, of_twenty)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [SEED])
def test_killed_whenever_it_may_be(of_twenty: Account, seed: int) -> None:
    with staged(TWENTY) as stage:
        killed_by_chance(stage, seed, 3, 100)
        gone_on(stage, of_twenty)


@pytest.mark.chaos
@pytest.mark.parametrize(
    "place",
    [
        # While it holds the lock of the repository; with nothing left that would be free by itself.
        ("harness.repository.git:Git.user[worktree]", "before", 6),
        ("harness.validation.trial:Court._run", "after", 2),
    ],
    ids=["at the beginning", "in the end"],
)
def test_one_worker_takes_over_from_another_that_was_killed(of_twenty: Account, place: Point) -> None:
    with staged(TWENTY) as stage:
        run = stage.start("run", "--json", at=place, number="SIGSTOP")
        stage.standing_still(run)
        worker = stage.start("worker", "--json")
        stage.until("SELECT ticket FROM events WHERE kind = 'run.resumed'", process=worker)
        run.kill()
        ended(run)
        ran = ended(worker)
        assert ran.code == 1, ran
        alike(stage, of_twenty)


@pytest.mark.chaos
def test_killed_with_everything_that_it_had_started(of_twenty: Account) -> None:
    with staged(TWENTY) as stage:
        assert not killed_at(stage, [("harness.validation.trial:Court._run", "before", 2)])
        for pid in stage.running():
            # Some end with those that were killed before them.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        gone_on(stage, of_twenty)


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_an_answer_cost_is_known_before_the_answer_is(when: str) -> None:
    with staged(names(asks=1)) as stage:
        assert not killed_at(stage, [(f"{TRANSCRIPT}.add[agent]", when, 1)])
        assert stage.rows("SELECT model_calls FROM agents") == [(1,)]
        assert stage.rows("SELECT count(*) FROM events WHERE kind = 'model.call'") == [(1,)]


@pytest.mark.parametrize("command", ["cancel", "resume"])
def test_killed_as_it_was_cancelled_it_is_ended_by_whoever_comes_next(command: str) -> None:
    with staged(names(loud=2), limits="{agents: 1}") as stage:
        with stage.stopped("run", at=CHECKED) as run, (stage.state / "git" / "repository.lock").open("w") as lock:
            assert stage.run("runs", "cancel").code == 0
            # The worktree of the one at work cannot be removed before it is killed.
            assert taken(lock.fileno())
            run.send_signal(signal.SIGCONT)
            stage.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM agents WHERE state <> 'cancelled')", process=run)
            run.kill()
            ended(run)
        assert any((stage.state / "worktrees").iterdir())
        ran = stage.run("runs", command)
        assert ran.code == (0 if command == "cancel" else 1), ran
        assert stage.rows("SELECT state FROM runs") == [("cancelled",)]
        if command == "cancel":
            # What a killed run had started lives on to its lease's end, or until somebody ends it.
            assert stage.run("baseline", "down").code == 0
        stage.assert_once()
        stage.assert_nothing_left()


def test_what_was_being_handed_over_as_its_run_was_cancelled_is_finished() -> None:
    with staged(names(loud=2), limits="{agents: 1}") as stage:
        assert not killed_at(stage, [(f"{EFFECTS}.once", "after", 1)])
        ran = stage.run("runs", "cancel")
        assert (ran.code, "1 were being handed over" in ran.err) == (0, True), ran
        assert stage.states() == {"loud-0": "submitting", "loud-1": "cancelled"}
        refused = stage.run("runs", "resume", "-t", "loud-0")
        assert (refused.code, "was cancelled" in refused.err) == (2, True), refused
        assert stage.run("runs", "resume").code == 1
        assert stage.states() == {"loud-0": "verified", "loud-1": "cancelled"}
        assert stage.rows("SELECT state FROM runs") == [("cancelled",)]
        stage.assert_once()
        stage.assert_nothing_left()


@pytest.mark.chaos
@pytest.mark.parametrize("chain", range(CHAINS))
def test_a_hundred_killed_at_every_place(of_hundred: Account, chain: int) -> None:
    killed_everywhere(HUNDRED, ALL[chain::CHAINS], of_hundred)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [SEED])
def test_a_hundred_killed_whenever_they_may_be(of_hundred: Account, seed: int) -> None:
    with staged(HUNDRED) as stage:
        killed_by_chance(stage, seed, 20, 200)
        gone_on(stage, of_hundred)


@pytest.mark.chaos
def test_a_worker_that_hangs_loses_its_tickets_and_harms_nothing(of_twenty: Account) -> None:
    with staged(TWENTY) as stage:
        # One agent: it hangs without the lock of the repository.
        place: Point = ("harness.validation.trial:Court._run", "after", 1)
        with stage.stopped("run", "--json", "--agents", "1", at=place) as run:
            # It hangs for as long as the other needs, which is told by the end of its leases.
            others = ended(stage.start("worker", "--json"))
            assert others.code == 1, others
        assert ended(run).code == 1
        alike(stage, of_twenty)
