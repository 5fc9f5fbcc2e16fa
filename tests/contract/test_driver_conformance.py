"""Every driver of this machine keeps every promise of the contract: in process, and through a keeper of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from sandbox.conformance import ALONE, SHARED, Check, Stage
from sandbox.driver import Driver
from sandbox.local.client import ensure_keeper
from sandbox.local.driver import LocalDriver
from sandbox.sample import Sample, make_sample
from tests.processes import reap

ROOT = Path(__file__).parents[2]
KEEPER = """
import asyncio, pathlib, sys
sys.path.insert(0, sys.argv[1])
from sandbox.local.keeper import serve
asyncio.run(serve(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])))
"""
Open = Callable[[Sample, Path], AbstractAsyncContextManager[Driver]]


@asynccontextmanager
async def in_process(sample: Sample, state: Path) -> AsyncIterator[Driver]:
    async with LocalDriver(sample.repo, state) as driver:
        yield driver


@asynccontextmanager
async def by_keeper(sample: Sample, state: Path) -> AsyncIterator[Driver]:
    argv = [sys.executable, "-c", KEEPER, str(ROOT), str(sample.repo), str(state)]
    driver = await ensure_keeper(sample.repo, state, argv)
    hello = await driver.hello()
    assert hello is not None
    try:
        yield driver
    finally:
        if await driver.hello() is not None:
            await driver.down()
        await driver.aclose()
        await asyncio.to_thread(reap, hello.pid)


DRIVERS: dict[str, Open] = {"in process": in_process, "by keeper": by_keeper}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sample") / "repo")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(DRIVERS))
async def shared(
    request: pytest.FixtureRequest, sample: Sample, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    state = tmp_path_factory.mktemp("shared") / "state"
    async with DRIVERS[request.param](sample, state) as driver, httpx.AsyncClient(timeout=20) as http:
        await driver.up(sample.system, sample.base)
        yield Stage(driver, sample, http)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("check", SHARED, ids=lambda check: check.name)
async def test_over_one_baseline(check: Check, shared: Stage) -> None:
    await check.body(shared)


@pytest.mark.parametrize("kind", list(DRIVERS))
@pytest.mark.parametrize("check", ALONE, ids=lambda check: check.name)
async def test_alone(check: Check, kind: str, sample: Sample, tmp_path: Path) -> None:
    async with DRIVERS[kind](sample, tmp_path / "state") as driver, httpx.AsyncClient(timeout=20) as http:
        await check.body(Stage(driver, sample, http))
