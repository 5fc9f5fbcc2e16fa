"""Two workers share a run on a PostgreSQL, and one of them fails, or the server does, or what is between them.

In the end each ticket is accounted for once and has the verdict that it has where nothing happens.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import pytest

from tests.chaos.accounts import Account, alike, verified, worked
from tests.chaos.seeds import SEED
from tests.chaos.small_server import serve_small
from tests.chaos.stage import CHECKED, Ran, Stage, elsewhere, ended, staged
from tests.chaos.stores import OnServer
from tests.chaos.stories import names
from tests.postgres import Server, programs

pytestmark = pytest.mark.timeout(1200)

TICKETS: Final = names(loud=6, mend=2, keep=2, mute=2, lint=2, asks=6)
LEADER: Final = ("run", "--agents", "1")
"""It is not done before a second worker has come."""
WORKER: Final = ("worker", "--agents", "4")
TWO_HOLD: Final = "SELECT 1 FROM agents HAVING count(DISTINCT holder) = 2"

Process = subprocess.Popen[str]


@pytest.fixture(scope="module")
def clean(postgres: Server) -> Iterator[Account]:
    with staged(TICKETS, server=postgres) as stage:
        yield worked(stage)


@contextmanager
def two_at_work(server: Server) -> Iterator[tuple[Stage, Process, Process]]:
    """The one that began the run, and one that has joined it; both have tickets."""
    with staged(TICKETS, server=server) as stage:
        leader = stage.start(*LEADER)
        stage.until("SELECT id FROM workers", process=leader)
        worker = stage.start(*WORKER)
        stage.until(TWO_HOLD, process=worker)
        yield stage, leader, worker


def go_on(stage: Stage, events: int, process: Process) -> None:
    """Wait until so many more events were noted."""
    ((before,),) = stage.until("SELECT count(*) FROM events")
    stage.until(f"SELECT 1 FROM events HAVING count(*) >= {before + events}", process=process)


def all_ended(*processes: Process) -> list[Ran]:
    with ThreadPoolExecutor(len(processes)) as threads:
        return list(threads.map(lambda process: ended(process, 900), processes))


def shared(stage: Stage, clean: Account, *processes: Process) -> None:
    """Both come to the run's end, and it is that of a clean one."""
    for ran in all_ended(*processes):
        assert ran.code == 1, ran
    alike(stage, clean)


@pytest.mark.chaos
def test_a_server_that_crashes_in_the_middle_of_the_checks_costs_no_verdict(postgres: Server) -> None:
    with staged(names(loud=1), server=postgres) as stage:
        with stage.stopped("run", "--json", at=CHECKED) as run:
            postgres.stop("immediate")
            postgres.start()
        verified(stage, ended(run))


def test_a_worker_ends_what_a_killed_leader_had_begun(postgres: Server) -> None:
    with staged(names(loud=1), server=postgres) as stage:
        leader = stage.start("run", at=CHECKED, number="SIGSTOP")
        stage.standing_still(leader)
        worker = stage.start("worker")
        stage.until("SELECT ticket FROM events WHERE kind = 'run.resumed'", process=worker)
        leader.kill()
        ended(leader)
        verified(stage, ended(worker))


@pytest.mark.chaos
@pytest.mark.parametrize("victim", ["leader", "worker"])
@pytest.mark.parametrize("seed", [SEED])
def test_one_of_two_is_killed(postgres: Server, clean: Account, victim: str, seed: int) -> None:
    chance = random.Random(seed)
    with two_at_work(postgres) as (stage, leader, worker):
        dies, lives = (leader, worker) if victim == "leader" else (worker, leader)
        go_on(stage, chance.randint(0, 60), lives)
        dies.kill()
        ended(dies)
        shared(stage, clean, lives)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [SEED])
def test_workers_come_and_are_killed_in_turn(postgres: Server, clean: Account, seed: int) -> None:
    chance = random.Random(seed)
    with two_at_work(postgres) as (stage, *at_work):
        for _ in range(4):
            go_on(stage, chance.randint(0, 25), at_work[0])
            dies = at_work.pop(chance.randrange(2))
            dies.kill()
            ended(dies)
            at_work.append(stage.start(*WORKER))
            stage.until("SELECT 1 FROM workers WHERE ended_at IS NULL HAVING count(*) > 1", process=at_work[1])
        shared(stage, clean, *at_work)


@pytest.mark.chaos
@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_the_server_restarts_again_and_again(postgres: Server, clean: Account, mode: str) -> None:
    with two_at_work(postgres) as (stage, leader, worker):
        for _ in range(4):
            postgres.stop(mode)
            postgres.start()
            go_on(stage, 15, leader)
        shared(stage, clean, leader, worker)


@pytest.mark.chaos
def test_the_server_is_gone_for_a_while(postgres: Server, clean: Account) -> None:
    with two_at_work(postgres) as (stage, leader, worker):
        postgres.stop()
        try:
            time.sleep(20)
            assert (leader.poll(), worker.poll()) == (None, None)
        finally:
            postgres.start()
        shared(stage, clean, leader, worker)


@pytest.mark.chaos
def test_connections_are_cut_all_the_time(postgres: Server, clean: Account) -> None:
    with two_at_work(postgres) as (stage, leader, worker):
        assert isinstance(stage.store, OnServer)
        cuts = 0
        for _ in range(40):
            cuts += stage.store.cut()
            time.sleep(0.4)
        assert cuts > 40
        shared(stage, clean, leader, worker)


@pytest.mark.chaos
def test_the_disk_of_the_server_is_full(clean: Account) -> None:
    found = programs()
    assert found is not None
    with serve_small(found) as small:
        if small is None:
            pytest.skip("nobody may mount a file system here")
        with two_at_work(small.server) as (stage, leader, worker):
            small.fill()
            for ran in all_ended(leader, worker):
                assert ran.code == 3, ran
                assert "No space left on device" in ran.err
                assert "free some space on the database's disk" in ran.err
                assert "Traceback" not in ran.err
            stage.quiet()
            small.free()
            shared(stage, clean, stage.start("runs", "resume"))


@pytest.mark.chaos
@pytest.mark.parametrize("off_s", [3600.0, -3600.0])
def test_two_machines_whose_clocks_differ_share_a_run_and_take_nothing_from_each_other(
    postgres: Server, clean: Account, off_s: float
) -> None:
    with staged(TICKETS, server=postgres) as here, elsewhere(here, off_s=off_s) as there:
        leader = here.start(*LEADER)
        here.until("SELECT id FROM workers", process=leader)
        worker = there.start(*WORKER)
        here.until(TWO_HOLD, process=worker)
        assert [ran.code for ran in all_ended(leader, worker)] == [1, 1]
        here.assert_once()
        taken = here.rows("SELECT ticket FROM agents WHERE generation > 1")
        assert taken == [], (taken, here.rows("SELECT at, kind, ticket, data FROM events WHERE kind LIKE '%.fault'"))
        assert not {*here.branches()} & {*there.branches()}
        on_both(here, there, clean)
        here.assert_nothing_left()
        there.assert_nothing_left()


@pytest.mark.chaos
def test_a_machine_that_is_gone_leaves_its_tickets_to_another_one(postgres: Server, clean: Account) -> None:
    with staged(TICKETS, server=postgres) as here, elsewhere(here, off_s=-3600.0) as there:
        leader = here.start(*LEADER)
        here.until("SELECT id FROM workers", process=leader)
        worker = there.start(*WORKER)
        here.until(TWO_HOLD, process=worker)
        leader.kill()
        ended(leader)
        here.clear()
        (ran,) = all_ended(worker)
        assert ran.code == 1, ran
        here.assert_once()
        on_both(here, there, clean)
        there.assert_nothing_left()


def on_both(here: Stage, there: Stage, clean: Account) -> None:
    """Each ticket came on one of the two machines to what it comes to in a clean run."""
    accounts = here.account(), there.account()
    differing = {ticket: how for ticket, how in clean.items() if how not in [one[ticket] for one in accounts]}
    assert not differing, (differing, accounts)
