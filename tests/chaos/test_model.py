"""The model misbehaves: refusals, overload, streams that stall, break off or turn to nonsense, in one storm.

The model is the rehearsal server, behind the address that a user would set; the faults are ordered from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from harness.agents.rehearsal.server import serve_rehearsal
from tests.chaos.stage import Stage, staged
from tests.chaos.stories import STORIES, names

pytestmark = pytest.mark.timeout(600)

TICKETS: Final = names(asks=14, loud=1, lint=5)
FAULTS: Final = (
    {"status": 429, "retry_after": 0.05},
    {"status": 529},
    {"cut": True},
    {"garbage": True},
    {"stall_s": 0.3},
    {"status": 500},
)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged(TICKETS, kind="anthropic") as stage:
        yield stage


@pytest.mark.chaos
def test_a_storm_costs_time_and_nothing_else(stage: Stage) -> None:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve_rehearsal(stage.root / "recordings")) as url,
    ):
        stage.env = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "sk-ant-of-a-test"}
        storm = list(itertools.islice(itertools.cycle(FAULTS), 30))
        assert httpx.post(f"{url}/_faults", json={"next": storm}).json() == {"waiting": 30}
        ran = stage.run("run", "--json")
        assert httpx.post(f"{url}/_faults", json={"next": []}).json() == {"waiting": 0}
    assert ran.code == 1, ran
    assert stage.states() == {name: STORIES[name.split("-")[0]].ends for name in TICKETS}
    assert stage.rows("SELECT ticket FROM agents WHERE faults > 0 OR environment") == []
    stage.assert_once()
    stage.assert_nothing_left()
