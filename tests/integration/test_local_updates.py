"""Forks under load: updates without one failed request, many at once, moves of two services in one step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sandbox.driver import Source
from sandbox.local.driver import LocalDriver
from sandbox.sample import Sample, make_sample
from tests.processes import GRACE_S


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_sample(tmp_path / "repo")


@pytest.fixture
async def driver(sample: Sample, tmp_path: Path) -> AsyncIterator[LocalDriver]:
    async with LocalDriver(sample.repo, tmp_path / "state") as driver:
        await driver.up(sample.system, sample.base)
        yield driver


class Load:
    """Requests one after another from a few clients, until it is told to stop."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self.http, self.url = http, url
        self.words: list[tuple[str, ...]] = []
        self.failures: list[str] = []
        self.over = False

    async def run(self, clients: int) -> None:
        await asyncio.gather(*(self._client() for _ in range(clients)))

    async def _client(self) -> None:
        while not self.over:
            try:
                answer = await self.http.get(self.url)
                if answer.status_code != 200:
                    self.failures.append(f"{answer.status_code} {answer.text}")
                    continue
                body = answer.json()
                self.words.append((body["word"], body["next"]["word"], body["next"]["next"]["word"]))
            except (httpx.HTTPError, KeyError, TypeError) as error:
                self.failures.append(repr(error))


async def test_twenty_updates_under_load_fail_no_request(driver: LocalDriver, sample: Sample) -> None:
    box = await driver.create("busy", ttl_s=60)
    await driver.fork("busy", {"b": Source(commit=sample.changed)})
    async with httpx.AsyncClient(timeout=GRACE_S) as http:
        load = Load(http, box.urls["a"])
        running = asyncio.create_task(load.run(clients=3))
        for number in range(20):
            commit = sample.again if number % 2 == 0 else sample.changed
            updated = await driver.fork("busy", {"b": Source(commit=commit)})
            assert updated.forks["b"].generation == number + 2
        load.over = True
        await running
    assert load.failures == []
    assert {words[1] for words in load.words} >= {"changed-b", "again-b"}
    window = await driver.window("busy", await driver.cursor())
    assert window.dropped == 0


async def test_an_update_leaves_no_old_process(driver: LocalDriver, sample: Sample) -> None:
    await driver.create("tidy", ttl_s=60)
    first = await driver.fork("tidy", {"b": Source(commit=sample.changed)})
    old = psutil.Process(first.forks["b"].pid)
    await driver.fork("tidy", {"b": Source(commit=sample.again)})
    await asyncio.to_thread(psutil.wait_procs, [old], timeout=GRACE_S)
    assert not old.is_running()


async def test_two_services_move_in_one_step(driver: LocalDriver, sample: Sample) -> None:
    """The move is one table: who was served by the new `b` is served by the new `c` after it, never by the old."""
    seen: set[tuple[str, ...]] = set()
    async with httpx.AsyncClient(timeout=GRACE_S) as http:
        for number in range(5):
            box = await driver.create(f"pair-{number}", ttl_s=60)
            load = Load(http, box.urls["a"])
            running = asyncio.create_task(load.run(clients=3))
            await driver.fork(box.name, {name: Source(commit=sample.changed) for name in ("b", "c")})
            load.over = True
            await running
            assert load.failures == []
            seen.update(load.words)
    assert ("a", "changed-b", "c") not in seen
    assert ("a", "b", "c") in seen


async def test_thirty_sandboxes_fork_the_same_service_at_once(driver: LocalDriver, sample: Sample) -> None:
    async def one(number: int) -> None:
        name = f"many-{number}"
        box = await driver.create(name, ttl_s=60)
        commit = sample.changed if number % 2 else sample.again
        await driver.fork(name, {"b": Source(commit=commit)})
        async with httpx.AsyncClient(timeout=GRACE_S) as http:
            body = (await http.get(box.urls["a"])).json()
        assert body["next"]["word"] == ("changed-b" if number % 2 else "again-b")

    await asyncio.gather(*map(one, range(30)))
    boxes = await driver.list()
    assert len(boxes) == 30
    addresses = [box.forks["b"].address for box in boxes]
    assert len(set(addresses)) == 30
    await asyncio.gather(*(driver.delete(box.name) for box in boxes))
    pids = [box.forks["b"].pid for box in boxes]
    assert not any(pid is not None and psutil.pid_exists(pid) for pid in pids)


async def answered(http: httpx.AsyncClient, url: str) -> Any:
    """The first answer, however often nobody listens before."""
    while True:
        try:
            return (await http.get(url)).json()
        except httpx.TransportError:
            await asyncio.sleep(0.02)


async def test_a_router_that_dies_is_revived_and_its_loss_is_told(driver: LocalDriver, sample: Sample) -> None:
    box = await driver.create("shaken", ttl_s=60)
    await driver.fork("shaken", {"b": Source(commit=sample.changed)})
    since = await driver.cursor()
    assert driver._up is not None
    psutil.Process(driver._up[0].routes.router.pid).kill()
    async with httpx.AsyncClient(timeout=GRACE_S) as http:
        body = await answered(http, box.urls["a"])
    assert body["next"]["word"] == "changed-b"
    assert (await driver.window("shaken", since)).dropped > 0
    assert (await driver.window("shaken", await driver.cursor())).dropped == 0
    baseline = await driver.baseline()
    assert baseline is not None
    assert baseline.healthy


async def test_a_dead_service_makes_the_baseline_sick_and_stays_dead(driver: LocalDriver) -> None:
    baseline = await driver.baseline()
    assert baseline is not None
    pid = baseline.services["c"].pid
    assert pid is not None
    process = psutil.Process(pid)
    process.kill()
    await asyncio.to_thread(psutil.wait_procs, [process], timeout=GRACE_S)
    sick = await driver.baseline()
    assert sick is not None
    assert not sick.healthy
    assert {name: running.healthy for name, running in sick.services.items()} == {"a": True, "b": True, "c": False}
    assert sick.services["c"].pid == pid


async def test_keys_of_a_crowd_are_live_at_once_and_refused_after_it(driver: LocalDriver) -> None:
    """More than are kept in stock, at the same time, twice: no key is given out again."""
    async with httpx.AsyncClient(timeout=30) as http:
        seen: set[str] = set()
        for crowd in range(2):
            names = [f"crowd-{crowd}-{number}" for number in range(12)]

            async def created(name: str) -> tuple[str, str]:
                box = await driver.create(name, ttl_s=60)
                assert (await http.get(box.urls["a"])).json()["word"] == "a"
                return box.key, box.urls["a"]

            made = await asyncio.gather(*map(created, names))
            assert len({key for key, _ in made} - seen) == len({url for _, url in made}) == len(names)
            seen |= {key for key, _ in made}
            await asyncio.gather(*map(driver.delete, names))
        baseline = await driver.baseline()
        assert baseline is not None
        for key in seen:
            answer = await http.get(baseline.urls["a"], headers={"x-spurline-key": key})
            assert answer.status_code == 421
