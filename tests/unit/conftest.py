"""A store that is quick to make, and the care that no task is left."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.store.database import Database


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, made once: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "spurline.db"
    Database(path).close()
    return path


@pytest.fixture
async def database(tmp_path: Path, empty: Path) -> AsyncIterator[Database]:
    path = tmp_path / "spurline.db"
    shutil.copyfile(empty, path)
    async with Database(path) as opened:
        yield opened


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}
