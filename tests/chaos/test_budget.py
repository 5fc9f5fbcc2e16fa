"""Several processes on one run, with less budget than its tickets would use."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.stage import ended, staged
from tests.chaos.stories import names

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(
    ("tickets", "agents", "calls", "processes"), [(12, 1, 6, 2), pytest.param(40, 30, 12, 3, marks=pytest.mark.chaos)]
)
def test_several_processes_use_the_budget_of_the_run_and_no_more(
    tickets: int, agents: int, calls: int, processes: int
) -> None:
    with staged(names(asks=tickets), limits=f"{{agents: {agents}, budget_calls: {calls}}}") as stage:
        leader = stage.start("run")
        stage.until("SELECT id FROM workers", process=leader)
        workers = [stage.start("worker") for _ in range(processes - 1)]
        codes = {ended(process).code for process in (leader, *workers)}
        # A worker may come when all is done.
        assert codes <= {1, 2}
        assert stage.rows("SELECT sum(model_calls) FROM agents") == [(calls,)]
        assert Counter(stage.states().values()) == {"needs_human": calls, "failed": tickets - calls}
        stage.assert_nothing_left()
