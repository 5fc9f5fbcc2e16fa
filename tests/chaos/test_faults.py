"""What a run lives on is taken away while its checks run: the router, a fork, a service, the keeper, the store.

The run stands still at an exact place (see mortal.py) while it happens. In the end each ticket has the verdict that it
has where nothing happened, at once or after `runs resume`; or, where nothing can be judged, none at all.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final

import psutil
import pytest

from tests.chaos.accounts import verified
from tests.chaos.asking import asked
from tests.chaos.stage import CHECKED, Point, Stage, ended, staged
from tests.chaos.stories import names
from tests.conftest import commit_all, git

pytestmark = pytest.mark.timeout(600)

ONE: Final = names(loud=1)
BRIEF: Final = "{agents: 20, hold_minutes: 0.05}"
LONG: Final = "{agents: 20, hold_minutes: 1}"


@contextmanager
def stage_of(limits: str = LONG, tickets: tuple[str, ...] = ONE) -> Iterator[Stage]:
    with staged(tickets, limits=limits) as stage:
        yield stage


def slay(pid: int | None) -> None:
    """SIGKILL, and see it gone. Its parent may stand still, and not look after it."""
    assert pid is not None
    process = psutil.Process(pid)
    process.kill()
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.02)


def named(stage: Stage, word: str) -> int:
    """The process of the project whose command line holds `word`."""
    (pid,) = [pid for pid, line in stage.running().items() if word in line]
    return pid


def fork_of(stage: Stage) -> int | None:
    (sandbox,) = [one for one in asked(stage, lambda driver: driver.list()) if "b" in one.forks]
    return sandbox.forks["b"].pid


def service_of(stage: Stage, name: str) -> int | None:
    baseline = asked(stage, lambda driver: driver.baseline())
    assert baseline is not None
    return baseline.services[name].pid


@pytest.mark.parametrize("victim", ["router", pytest.param("fork", marks=pytest.mark.chaos)])
def test_what_comes_back_by_itself_costs_no_verdict(victim: str) -> None:
    with stage_of() as stage:
        with stage.stopped("run", "--json", at=CHECKED) as run:
            slay(named(stage, "/envoy --config-path") if victim == "router" else fork_of(stage))
        verified(stage, ended(run))


@pytest.mark.chaos
@pytest.mark.parametrize("victim", ["service", "keeper"])
def test_what_is_not_mended_stops_the_run_and_is_nobodys_failure(victim: str) -> None:
    with stage_of(BRIEF) as stage:
        with stage.stopped("run", "--json", at=CHECKED) as run:
            slay(service_of(stage, "a") if victim == "service" else named(stage, " keeper "))
        ran = ended(run)
        assert ran.code == 3, ran
        assert "did not recover" in ran.err
        assert stage.rows("SELECT ticket FROM events WHERE kind = 'verdict'") == []
        stage.run("baseline", "down")
        verified(stage, stage.run("runs", "resume", "--json"))


@pytest.mark.chaos
def test_a_baseline_of_another_version_judges_nothing_and_the_run_goes_on_when_its_own_is_back() -> None:
    with stage_of() as stage:
        base = git(stage.root, "rev-parse", "HEAD")
        with stage.stopped("run", "--json", at=CHECKED) as run:
            (stage.root / "b" / "word.txt").write_text("LOUD-0")
            commit_all(stage.root, "b says it already")
            assert stage.run("baseline", "down").code == 0
            assert stage.run("baseline", "up").code == 0
        stage.until("SELECT data FROM events WHERE kind = 'fleet.held' AND data LIKE '%baseline runs%'", process=run)
        assert stage.rows("SELECT ticket FROM events WHERE kind = 'verdict'") == []
        assert stage.run("baseline", "down").code == 0
        assert stage.run("baseline", "up", "--rev", base).code == 0
        ran = ended(run)
        assert ran.code == 0, ran
        stage.assert_once()
        # It was brought up to stay.
        assert service_of(stage, "a") is not None
        assert stage.run("baseline", "down").code == 0
        stage.assert_nothing_left()


@pytest.mark.chaos
def test_a_store_that_is_locked_for_a_while_is_waited_for() -> None:
    with stage_of() as stage:
        with stage.stopped("run", "--json", at=CHECKED) as run:
            lock = sqlite3.connect(stage.state / "spurline.db", isolation_level=None)
            lock.execute("BEGIN IMMEDIATE")
        with closing(lock):
            time.sleep(3)
            assert run.poll() is None
            lock.execute("ROLLBACK")
        verified(stage, ended(run))


def test_a_store_that_is_gone_ends_the_run_with_a_word() -> None:
    with stage_of() as stage:
        with stage.stopped("run", "--json", at=CHECKED) as run:
            for path in stage.state.glob("spurline.db*"):
                path.unlink()
        ran = ended(run)
        assert ran.code == 3, ran
        assert f"{stage.state / 'spurline.db'} was removed or replaced while it was open" in ran.err
        assert "Traceback" not in ran.err
        stage.quiet()
        # What was there is gone, and nothing of it stands in the way of another run.
        ran = stage.run("run", "--json")
        assert ran.code == 0, ran
        stage.assert_once()


@pytest.mark.chaos
def test_a_store_that_was_replaced_ends_the_run_and_once_it_is_back_the_run_goes_on() -> None:
    with stage_of() as stage:
        store = stage.state / "spurline.db"
        with stage.stopped("run", "--json", at=CHECKED) as run:
            for path in stage.state.glob("spurline.db*"):
                path.rename(path.with_name(f"kept-{path.name}"))
            store.write_bytes(b"this is no database")
        ran = ended(run)
        assert ran.code == 3, ran
        stage.quiet()
        store.unlink()
        for path in stage.state.glob("kept-spurline.db*"):
            path.rename(path.with_name(path.name.removeprefix("kept-")))
        verified(stage, stage.run("runs", "resume", "--json"))


def test_a_baseline_is_stopped_by_whoever_uses_it_last() -> None:
    began: Point = ("harness.store.journal:StoreJournal.move[preparing]", "before", 1)
    with stage_of(tickets=names(loud=2)) as stage:
        with stage.stopped("run", "-t", "loud-0", at=began) as first:
            with stage.stopped("run", "-t", "loud-1", at=began) as second:
                first.send_signal(signal.SIGCONT)
                assert ended(first).code == 0
                # The one that brought it up is gone, and the other one has no sandbox yet.
                assert service_of(stage, "a") is not None
            assert ended(second).code == 0
        stage.assert_nothing_left()
