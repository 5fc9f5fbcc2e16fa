"""Two machines that are two share a run: one loses its power, its cable is pulled out, or money runs out for both.

Each ticket ends once, as it does on one machine, and who asks on either is told whose repository has its branch.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pytest

from tests.chaos.machines import Machine, may_make_rooms, two_machines
from tests.chaos.stage import ended
from tests.chaos.stories import STORIES, names
from tests.conftest import git
from tests.postgres import programs

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(1200),
]

TICKETS: Final = names(loud=5, mend=2, keep=1, mute=1, lint=1, asks=4)
CALLS: Final = 20
Both = tuple[Machine, Machine]


@pytest.fixture(scope="module", autouse=True)
def _able() -> None:
    if programs() is None:
        pytest.skip("no PostgreSQL is installed")
    if not may_make_rooms():
        pytest.skip("nobody but root may make machines out of namespaces")


@contextmanager
def machines(tickets: Sequence[str] = TICKETS, **said: str) -> Iterator[Both]:
    found = programs()
    assert found is not None
    with two_machines(found, tickets, **said) as both:
        yield both


def two_at_work(here: Machine, there: Machine) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """The run on the one, and a worker on the other that comes later; both have tickets."""
    leader = here.start("run", "--agents", "1")
    # Two baselines are started one after the other.
    here.until("SELECT ticket FROM agents WHERE state = 'generating'", process=leader, within_s=300)
    worker = there.start("worker", "--agents", "3")
    here.until("SELECT 1 FROM agents HAVING count(DISTINCT holder) = 2", process=worker, within_s=300)
    return leader, worker


def as_told(here: Machine, there: Machine) -> dict[str, str]:
    """Each ticket has ended as its story does; both machines say the same of it, and it is true of its branch. Which
    machine worked on which ticket."""
    here.assert_ended_once()
    assert here.states() == {name: STORIES[name.split("-")[0]].ends for name in TICKETS}
    told = [machine.run("runs", "show", "--json").objects[0]["agents"] for machine in (here, there)]
    owners = {machine.name: machine for machine in (here, there)}
    assert [(one["ticket"], one["machine"]) for one in told[0]] == [(one["ticket"], one["machine"]) for one in told[1]]
    for agent in told[0]:
        if (commit := agent["commit"]) is not None:
            owner = owners[agent["machine"]]
            assert git(owner.root, "rev-parse", agent["branch"]) == commit
            assert bool(owner.noted(commit)) == (agent["state"] == "verified")
    return {agent["ticket"]: agent["machine"] for agent in told[0]}


def test_both_say_whose_repository_has_a_branch_and_it_can_be_had_from_there() -> None:
    with machines() as (here, there):
        leader, worker = two_at_work(here, there)
        assert [ended(leader).code, ended(worker).code] == [1, 1]
        here.assert_once()
        by = as_told(here, there)
        assert set(by.values()) == {here.name, there.name}
        far = next(name for name, machine in by.items() if machine == there.name and not name.startswith("asks"))
        said = here.run("runs", "show", "-t", far).out
        assert f"{there.name}, whose repository has the branch" in said
        assert there.name not in there.run("runs", "show", "-t", far).out
        report = here.run("runs", "report").out
        assert all(machine.name in report for machine in (here, there))
        git(here.root, "remote", "add", there.name, str(there.root))
        git(here.root, "fetch", "-q", there.name)
        git(here.root, "fetch", "-q", there.name, "refs/notes/spurline:refs/notes/there")
        for ticket, branch, commit in here.rows(
            f"""SELECT ticket, branch, "commit" FROM agents WHERE state = 'verified' AND machine = '{there.name}'"""
        ):
            assert git(here.root, "rev-parse", f"{there.name}/{branch}") == commit, ticket
            record, key = here.folder / "home" / "record.json", here.folder / "home" / "signing.pub"
            record.write_text(git(here.root, "notes", "--ref", "there", "show", commit) + "\n")
            shutil.copy(there.state / "keys" / "signing.pub", key)
            assert here.run("verify", str(record), "--commit", commit, "--key", str(key)).code == 0
        for machine in (here, there):
            machine.assert_nothing_left()


def test_what_one_had_that_lost_its_power_the_other_begins_anew() -> None:
    with machines() as (here, there):
        leader, worker = two_at_work(here, there)
        ((lost,),) = here.until(
            f"SELECT ticket FROM agents WHERE machine = '{here.name}' AND holder IS NOT NULL LIMIT 1"
        )
        here.crash()
        ended(leader)
        ran = ended(worker, 600)
        assert ran.code == 1, ran
        here.begin()
        assert as_told(here, there)[lost] == there.name
        assert here.run("runs", "resume").code == 2
        there.assert_nothing_left()


def test_one_whose_cable_was_out_for_a_minute_goes_on_with_what_nobody_took() -> None:
    with machines() as (here, there):
        leader, worker = two_at_work(here, there)
        there.cable("down")
        time.sleep(60)
        there.cable("up")
        assert [ended(leader, 600).code, ended(worker, 600).code] == [1, 1]
        as_told(here, there)
        there.assert_nothing_left()


def test_two_machines_use_the_budget_of_the_run_and_no_more() -> None:
    asking = names(asks=40)
    with machines(asking, limits=f"{{agents: 30, budget_calls: {CALLS}}}") as (here, there):
        leader = here.start("run", "--agents", "1")
        here.until("SELECT ticket FROM agents WHERE state = 'generating'", process=leader, within_s=300)
        # Until both are there.
        assert here.run("runs", "pause").code == 0
        worker = there.start("worker")
        here.until("SELECT 1 FROM workers HAVING count(*) = 2", process=worker, within_s=300)
        assert there.run("runs", "resume").code == 0
        assert {ended(leader, 600).code, ended(worker, 600).code} == {1}
        here.assert_ended_once()
        assert here.rows("SELECT sum(model_calls) FROM agents") == [(CALLS,)]
        assert Counter(here.states().values()) == {"needs_human": CALLS, "failed": len(asking) - CALLS}
