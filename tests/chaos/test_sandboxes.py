"""Many sandboxes come and go beside one baseline, and nothing of any of them is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from sandbox.driver import Source
from sandbox.local.driver import LocalDriver
from sandbox.local.ports import BLOCK
from sandbox.sample import Sample, make_sample
from tests.processes import GRACE_S

pytestmark = pytest.mark.timeout(1800)

AT_ONCE: Final = 20


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_sample(tmp_path / "repo")


@pytest.fixture
async def driver(sample: Sample, tmp_path: Path) -> AsyncIterator[LocalDriver]:
    async with LocalDriver(sample.repo, tmp_path / "state") as driver:
        await driver.up(sample.system, sample.base)
        yield driver


def census(state: Path) -> dict[str, int]:
    """What can be counted of what sandboxes are made of."""
    me = psutil.Process()
    children = [child for child in me.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    ports = 0
    for child in children:
        ports += sum(one.status == psutil.CONN_LISTEN for one in child.net_connections(kind="inet"))
    return {
        "processes": len(children),
        "ports": ports,
        "files": me.num_fds(),
        "checkouts": sum(1 for path in (state / "checkouts").iterdir()),
        "logs": sum(1 for path in (state / "logs").rglob("*.log")),
    }


async def come_and_go(driver: LocalDriver, sample: Sample, count: int, forked: int) -> list[str]:
    """`count` sandboxes, `forked` of them with a fork that is asked; their keys."""
    turns, keys = asyncio.Semaphore(AT_ONCE), list[str]()

    async def one(number: int) -> None:
        async with turns, httpx.AsyncClient(trust_env=False) as client:
            sandbox = await driver.create(f"box-{number}", ttl_s=600)
            keys.append(sandbox.key)
            if number < forked:
                await driver.fork(sandbox.name, {"b": Source(commit=sample.changed)})
                assert (await client.get(f"{sandbox.urls['a']}/")).json()["next"]["word"] == "changed-b"
            await driver.delete(sandbox.name)

    await asyncio.gather(*(one(number) for number in range(count)))
    return keys


async def rests(state: Path, wanted: dict[str, int]) -> None:
    """Wait until the count is no more than `wanted`."""
    deadline = time.monotonic() + GRACE_S
    while more := {name: now for name, now in census(state).items() if now > wanted[name]}:
        assert time.monotonic() < deadline, (more, wanted)
        await asyncio.sleep(0.2)


async def came_and_went(driver: LocalDriver, sample: Sample, state: Path, count: int, forked: int) -> None:
    # The first few leave what is kept for all: a spare checkout, keys in stock.
    await come_and_go(driver, sample, AT_ONCE, 2)
    before = census(state)
    # A port cannot be had again at once where connections to it ended; a file holds each further block of them.
    before["files"] += forked // (BLOCK - 1)
    keys = await come_and_go(driver, sample, count, forked)
    await rests(state, before)
    assert await driver.list() == ()
    assert await driver.gc(dry_run=True) == ()
    baseline = await driver.baseline()
    assert baseline is not None
    assert baseline.healthy
    async with httpx.AsyncClient(trust_env=False) as client:
        for key in keys:
            answer = await client.get(f"{baseline.urls['a']}/", headers={"x-spurline-key": key})
            assert answer.status_code == 421


async def test_forty_leave_nothing(driver: LocalDriver, sample: Sample, tmp_path: Path) -> None:
    await came_and_went(driver, sample, tmp_path / "state", 40, 4)


@pytest.mark.chaos
async def test_a_thousand_leave_nothing(driver: LocalDriver, sample: Sample, tmp_path: Path) -> None:
    await came_and_went(driver, sample, tmp_path / "state", 1000, 1000)


async def test_a_clock_that_jumps_ends_no_lease(driver: LocalDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    await driver.hold(lease_s=60)
    await driver.create("box", ttl_s=60)
    now = time.time
    for jump_s in (86_400.0, -86_400.0):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: now() + jump_s)
        assert await driver.reap() == ()
        assert (await driver.get("box")).name == "box"
    monkeypatch.undo()
    assert await driver.baseline() is not None
