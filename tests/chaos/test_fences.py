"""A worker stands still for longer than its lease, another one takes its ticket up, and the first one is woken.

It finds out at the next thing that it would do, and does nothing: no line in the transcript, no commit, nothing of the
other one's removed.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.chaos.asking import asked
from tests.chaos.stage import Point, Stage, ended, staged
from tests.chaos.stories import names
from tests.conftest import git

pytestmark = pytest.mark.timeout(600)

TRANSCRIPT: Final = "harness.agents.transcript:Transcript"
WORKTREES: Final = "harness.repository.worktrees:Worktrees"
KEEPING: Final = "harness.engine.keeping:Keeping"

Process = subprocess.Popen[str]

COMMITS: Final[Point] = (f"{WORKTREES}.commit", "before", 1)


def outside(stage: Stage) -> dict[str, object]:
    """What workers do outside of the store."""
    transcripts = {path.name: path.read_bytes() for path in (stage.state / "transcripts").rglob("*.jsonl")}
    return {
        "transcripts": transcripts,
        "branches": git(stage.root, "for-each-ref", "refs/heads"),
        "worktrees": sorted(path.name for path in (stage.state / "worktrees").glob("*/*")),
        "sandboxes": sorted(one.name for one in asked(stage, lambda driver: driver.list())),
    }


def until_it_knows(stage: Stage) -> None:
    """Wait until the one that began the run has shown two signs of life: with the first it is told what it lost."""
    ((seen_at,),) = stage.rows("SELECT seen_at FROM workers WHERE leads")
    for _ in range(2):
        ((seen_at,),) = stage.until(f"SELECT seen_at FROM workers WHERE leads AND seen_at > {seen_at}")


@contextmanager
def standing_still(stage: Stage, command: str, *, at: Point) -> Iterator[Process]:
    """The command, stopped at the point by now."""
    process = stage.start(command, "--json", at=at, number="SIGSTOP")
    try:
        stage.standing_still(process)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("sleeps", "works"),
    [
        ((f"{TRANSCRIPT}.add[agent]", "before", 1), COMMITS),
        ((f"{TRANSCRIPT}.add[tools]", "before", 1), COMMITS),
        (COMMITS, COMMITS),
        (("harness.repository.git:Git.own[commit-tree]", "before", 1), COMMITS),
        ((f"{KEEPING}.release", "before", 1), (f"{KEEPING}.release", "before", 1)),
        ((f"{WORKTREES}.release", "before", 1), (f"{WORKTREES}.release", "before", 1)),
    ],
    ids=["says", "tells results", "commits", "moves the branch", "lets the sandbox go", "removes the worktree"],
)
def test_who_wakes_when_another_one_has_its_ticket_does_nothing_more(sleeps: Point, works: Point) -> None:
    with staged(names(loud=1)) as stage, standing_still(stage, "run", at=sleeps) as run:
        # It stands still until the other one could take its ticket up, which is told by the end of its lease.
        with standing_still(stage, "worker", at=works) as worker:
            before = outside(stage)
            run.send_signal(signal.SIGCONT)
            until_it_knows(stage)
            assert outside(stage) == before
            worker.send_signal(signal.SIGCONT)
            for process in (worker, run):
                ran = ended(process)
                assert ran.code == 0, ran
        assert stage.states() == {"loud-0": "verified"}
        stage.assert_once()
        stage.assert_nothing_left()
