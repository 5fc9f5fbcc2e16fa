"""Whoever dies, nothing stays: the keeper killed, the client killed, keeper and watchdog killed, signals, idleness."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from sandbox.driver import Source
from sandbox.local.client import KeeperDriver, ensure_keeper, find_keeper
from sandbox.local.driver import LocalDriver
from sandbox.local.guard import leftovers
from sandbox.local.socketpath import socket_path
from sandbox.sample import Sample, make_sample
from tasks.errors import SandboxError, SandboxGone
from tests.processes import GRACE_S, reap

ROOT = Path(__file__).parents[2]
KEEPER = """
import asyncio, pathlib, sys
sys.path.insert(0, sys.argv[1])
from sandbox.local.keeper import serve
asyncio.run(serve(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), idle_limit_s=float(sys.argv[4])))
"""
CLIENT = """
import asyncio, pathlib, sys
sys.path.insert(0, sys.argv[1])
from sandbox.driver import Source
from sandbox.local.client import find_keeper
from sandbox.sample import sample_system
async def main():
    driver = await find_keeper(pathlib.Path(sys.argv[2]))
    await driver.up(sample_system(), sys.argv[3])
    await driver.create("left", ttl_s=float(sys.argv[5]))
    await driver.fork("left", {"b": Source(commit=sys.argv[4])})
    print("forked", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_sample(tmp_path / "repo")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def keeper_argv(sample: Sample, state: Path, idle_limit_s: float = 30) -> list[str]:
    return [sys.executable, "-c", KEEPER, str(ROOT), str(sample.repo), str(state), str(idle_limit_s)]


@pytest.fixture
async def keeper(sample: Sample, state: Path) -> AsyncIterator[KeeperDriver]:
    driver = await ensure_keeper(sample.repo, state, keeper_argv(sample, state))
    hello = await driver.hello()
    assert hello is not None
    yield driver
    await driver.aclose()
    if psutil.pid_exists(hello.pid) and psutil.Process(hello.pid).status() != psutil.STATUS_ZOMBIE:
        os.kill(hello.pid, signal.SIGKILL)
    reap(hello.pid)


async def pid_of(driver: KeeperDriver) -> int:
    hello = await driver.hello()
    assert hello is not None
    return hello.pid


def below(folder: Path) -> list[psutil.Process]:
    """Living processes that have anything to do with a folder: they run in it, or name it."""
    found = []
    for process in psutil.process_iter():
        try:
            where = [process.cwd(), *process.cmdline(), *process.environ().values()]
            alive = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if alive and any(str(folder) in text for text in where) and process.pid != os.getpid():
            found.append(process)
    return found


def watchdog_of(keeper: int) -> psutil.Process:
    """The keeper's watchdog; other children come and go meanwhile."""
    for child in psutil.Process(keeper).children():
        try:
            if any("watchdog.py" in word for word in child.cmdline()):
                return child
        except psutil.Error:
            continue
    raise AssertionError("the keeper has no watchdog")


def groups_of(keeper: int) -> set[int]:
    """The process groups that the keeper has started."""
    return {child.pid for child in psutil.Process(keeper).children() if os.getpgid(child.pid) == child.pid}


def caged(process: psutil.Process) -> set[int]:
    """What ends with the parent of the process, by its cage: nothing where it has none."""
    if process.name() != "bwrap":
        return set()
    return {process.pid, *(child.pid for child in process.children(recursive=True))}


def run_until_killed(argv: list[str]) -> None:
    """Run a client until it says that it has forked, then kill it."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "forked\n"
        finally:
            client.kill()


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GRACE_S
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def brought_up(driver: KeeperDriver, sample: Sample) -> None:
    await driver.up(sample.system, sample.base)
    await driver.create("forked", ttl_s=60)
    await driver.fork("forked", {"b": Source(commit=sample.changed)})


async def test_a_killed_keeper_leaves_nothing(keeper: KeeperDriver, sample: Sample, state: Path) -> None:
    await brought_up(keeper, sample)
    pid = await pid_of(keeper)
    assert len(below(state)) >= 5
    os.kill(pid, signal.SIGKILL)
    reap(pid)
    await until(lambda: not below(state))
    await until(lambda: not (state / "checkouts").exists())
    with pytest.raises(SandboxError, match="no keeper answers"):
        await keeper.baseline()


async def test_keeper_and_watchdog_killed_the_next_driver_cleans_up(
    keeper: KeeperDriver, sample: Sample, state: Path
) -> None:
    await brought_up(keeper, sample)
    pid = await pid_of(keeper)
    fork = (await keeper.get("forked")).forks["b"].pid
    watchdog = watchdog_of(pid)
    os.kill(pid, signal.SIGSTOP)
    started = groups_of(pid) - {watchdog.pid}
    assert fork in started
    cage = caged(psutil.Process(fork))
    for victim in (watchdog.pid, pid):
        os.kill(victim, signal.SIGKILL)
    reap(pid)
    await until(lambda: not any(map(psutil.pid_exists, cage)))
    before = started & {process.pid for process in below(state)}
    assert before
    assert list((state / "checkouts").iterdir())
    named = leftovers(state)
    assert {what for what in named if "process" in what} == {f"process {leader}" for leader in before}
    assert str(state / "checkouts") in named
    assert before <= {process.pid for process in below(state)}
    assert list((state / "checkouts").iterdir())
    async with LocalDriver(sample.repo, state) as driver:
        assert not below(state / "checkouts")
        assert not (state / "checkouts").exists()
        with pytest.raises(SandboxError, match="another driver holds"):
            leftovers(state)
        assert await driver.gc(dry_run=True) == ()
        assert await driver.gc() == named
        with pytest.raises(SandboxGone):
            await driver.get("forked")
    assert not below(state)


async def test_a_keeper_names_what_it_would_remove(keeper: KeeperDriver, sample: Sample, state: Path) -> None:
    await brought_up(keeper, sample)
    assert await keeper.gc() == ()
    stray = state / "checkouts" / "stray"
    stray.mkdir()
    assert await keeper.gc(dry_run=True) == (str(stray),)
    assert stray.is_dir()
    assert await keeper.gc() == (str(stray),)
    assert not stray.exists()
    assert (await keeper.get("forked")).forks["b"].alive


async def test_a_killed_watchdog_is_replaced(keeper: KeeperDriver, sample: Sample, state: Path) -> None:
    await brought_up(keeper, sample)
    pid = await pid_of(keeper)
    watchdog_of(pid).kill()
    await keeper.create("later", ttl_s=60)
    await keeper.fork("later", {"c": Source(commit=sample.changed)})
    os.kill(pid, signal.SIGKILL)
    reap(pid)
    await until(lambda: not below(state))


async def test_a_killed_client_leaves_the_baseline_and_its_lease_ends_the_sandbox(
    keeper: KeeperDriver, sample: Sample, state: Path
) -> None:
    argv = [sys.executable, "-c", CLIENT, str(ROOT), str(state), sample.base, sample.changed, "3"]
    await asyncio.to_thread(run_until_killed, argv)
    fork = (await keeper.get("left")).forks["b"]
    baseline = await keeper.baseline()
    assert baseline is not None
    assert baseline.healthy
    assert fork.pid is not None
    await until(lambda: not psutil.pid_exists(fork.pid or 0))
    with pytest.raises(SandboxGone, match="lease"):
        await keeper.get("left")
    assert await keeper.baseline() is not None


async def test_a_call_under_way_tells_that_the_keeper_ended(
    keeper: KeeperDriver, sample: Sample, tmp_path: Path
) -> None:
    never_ready = tmp_path / "never-ready"
    begun = never_ready / "begun"  # a fork may write to what it runs
    (never_ready / "b").mkdir(parents=True)
    (never_ready / "b" / "app.py").write_text(f"import time\nopen({str(begun)!r}, 'w')\ntime.sleep(600)\n")
    await keeper.up(sample.system, sample.base)
    await keeper.create("unlucky", ttl_s=60)
    pid = await pid_of(keeper)
    forking = asyncio.create_task(keeper.fork("unlucky", {"b": Source(folder=never_ready)}))
    await until(begun.exists)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(SandboxError, match="the keeper ended while 'fork' was under way"):
        await forking
    reap(pid)


async def test_a_sandbox_whose_caller_goes_before_it_is_made_leaves_nothing(
    keeper: KeeperDriver, sample: Sample, state: Path, tmp_path: Path
) -> None:
    never_ready = tmp_path / "never-ready"
    begun = never_ready / "begun"
    (never_ready / "b").mkdir(parents=True)
    (never_ready / "b" / "app.py").write_text(f"import time\nopen({str(begun)!r}, 'w')\ntime.sleep(600)\n")
    await keeper.up(sample.system, sample.base)
    before = {process.pid for process in below(state)}
    making = asyncio.create_task(keeper.create("x", ttl_s=60, sources={"b": Source(folder=never_ready)}))
    await until(begun.exists)
    making.cancel()
    await asyncio.wait([making])
    await until(lambda: {process.pid for process in below(state)} <= before)
    await keeper.delete("x")
    assert await keeper.list() == ()
    assert await keeper.gc() == ()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_end_the_keeper_cleanly(
    number: signal.Signals, keeper: KeeperDriver, sample: Sample, state: Path
) -> None:
    await brought_up(keeper, sample)
    pid = await pid_of(keeper)
    os.kill(pid, number)
    assert await asyncio.to_thread(reap, pid) == 0
    assert not below(state)
    assert {path.name for path in state.iterdir()} == {"lock", "keeper.lock", "keeper.log"}
    assert (state / "keeper.log").read_text() == ""


async def test_a_keeper_with_a_baseline_stays_and_ends_when_idle(sample: Sample, state: Path) -> None:
    driver = await ensure_keeper(sample.repo, state, keeper_argv(sample, state, idle_limit_s=2))
    pid = await pid_of(driver)
    await driver.up(sample.system, sample.base, lease_s=6)
    await asyncio.sleep(3)
    assert await driver.baseline() is not None
    await driver.aclose()
    await asyncio.to_thread(reap, pid)
    assert await find_keeper(state) is None
    assert not below(state)


async def test_a_new_keeper_may_follow_one_that_is_ending(keeper: KeeperDriver, sample: Sample, state: Path) -> None:
    await brought_up(keeper, sample)
    pid = await pid_of(keeper)
    await keeper.down()
    async with await ensure_keeper(sample.repo, state, keeper_argv(sample, state)) as successor:
        assert await pid_of(successor) != pid
        assert await successor.baseline() is None
        successor_pid = await pid_of(successor)
        await successor.down()
    await asyncio.to_thread(reap, successor_pid)


async def test_a_keeper_whose_folder_was_removed_ends(keeper: KeeperDriver, sample: Sample, state: Path) -> None:
    await brought_up(keeper, sample)
    pid = await pid_of(keeper)
    shutil.rmtree(state, ignore_errors=True)
    await asyncio.to_thread(reap, pid)
    assert not below(state)


async def test_another_version_is_told_so_and_may_only_end_it(keeper: KeeperDriver, sample: Sample) -> None:
    pid = await pid_of(keeper)
    keeper._http.headers["x-spurline-version"] = "0.0.0"
    with pytest.raises(SandboxError, match=r"is Spurline .*, and this is Spurline 0\.0\.0") as caught:
        await keeper.up(sample.system, sample.base)
    assert "spurline baseline down" in caught.value.hint
    await keeper.down()
    await asyncio.to_thread(reap, pid)


async def test_many_who_want_a_keeper_get_the_same(sample: Sample, state: Path) -> None:
    argv = keeper_argv(sample, state)
    drivers = await asyncio.gather(*(ensure_keeper(sample.repo, state, argv) for _ in range(4)))
    pids = {await pid_of(driver) for driver in drivers}
    assert len(pids) == 1
    await drivers[0].down()
    for driver in drivers:
        await driver.aclose()
    await asyncio.to_thread(reap, pids.pop())


async def test_a_keeper_that_cannot_start_says_why(tmp_path: Path, sample: Sample) -> None:
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    argv = [sys.executable, "-c", KEEPER, str(ROOT), str(nowhere), str(tmp_path / "state"), "30"]
    with pytest.raises(SandboxError, match="is not a git repository"):
        await ensure_keeper(nowhere, tmp_path / "state", argv)


async def test_a_state_folder_has_one_driver(keeper: KeeperDriver, sample: Sample, state: Path) -> None:
    with pytest.raises(SandboxError, match="another driver holds"):
        async with LocalDriver(sample.repo, state):
            pass
    assert await keeper.hello() is not None


async def test_the_socket_is_for_its_user_only(keeper: KeeperDriver, state: Path) -> None:
    path = socket_path(state)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
