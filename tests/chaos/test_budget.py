"""Several processes on one run, with less budget than its tickets would use."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.stage import ended, staged
from tests.chaos.stories import names

pytestmark = pytest.mark.timeout(600)

CALLS = 12


def test_three_processes_use_the_budget_of_the_run_and_no_more() -> None:
    with staged(names(asks=40), limits=f"{{agents: 30, budget_calls: {CALLS}}}") as stage:
        leader = stage.start("run")
        stage.until("SELECT id FROM workers", process=leader)
        workers = [stage.start("worker"), stage.start("worker")]
        codes = {ended(process).code for process in (leader, *workers)}
        # A worker may come when all is done.
        assert codes <= {1, 2}
        assert stage.rows("SELECT sum(model_calls) FROM agents") == [(CALLS,)]
        assert Counter(stage.states().values()) == {"needs_human": CALLS, "failed": 40 - CALLS}
        stage.assert_nothing_left()
