"""harness.cli.board: the fold of events that the live display shows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.cli.board import Board, log_line
from tasks.events import Event, EventKind


def event(kind: EventKind, ticket: str | None = None, at: float = 0.0, **data: Any) -> Event:
    return Event(kind, "r1", ticket, data, at)


def board(*events: Event) -> Board:
    found = Board()
    for one in events:
        found = found.fold(one)
    return found


def test_a_ticket_through_the_loop() -> None:
    found = board(
        event("run.started", at=1.0, tickets=3),
        event("agent.state", "a", 2.0, state="preparing"),
        event("agent.state", "a", 3.0, state="generating", iterations=1),
        event("agent.activity", "a", 4.0, doing="read services/users/app.py"),
        event("model.call", "a", 5.0, cost_usd=0.25),
    )
    line = found.agents["a"]
    assert (line.state, line.iteration, line.doing) == ("generating", 1, "read services/users/app.py")
    assert (line.since, line.heard) == (3.0, 5.0)
    assert found.totals() == {"queued": 2, "generating": 1}
    assert found.fleet.cost_usd == 0.25
    found = found.fold(event("agent.state", "a", 9.0, state="verified", reason="all checks pass"))
    assert found.fleet.ended == 1
    assert found.agents["a"].iteration == 1
    assert found.moving(10) == ()


def test_a_line_says_what_is_done_and_not_what_is_waited_for() -> None:
    found = board(
        event("agent.state", "a", state="instantiating"),
        event("agent.activity", "a", doing="edit users/app.py"),
        event("agent.waited", "a", 7.0, seconds=5, **{"for": "checks"}),
        event("agent.fault", "a", 8.0, reason="the baseline is sick"),
    )
    assert (found.agents["a"].doing, found.agents["a"].heard) == ("edit users/app.py", 8.0)


def test_a_run_that_goes_on_knows_where_its_tickets_stand() -> None:
    found = board(event("run.resumed", at=9.0, tickets={"a": "validating", "b": "queued", "c": "verified"}))
    assert found.totals() == {"queued": 1, "validating": 1, "verified": 1}
    assert (found.began, found.agents["a"].since) == (9.0, 9.0)
    assert [agent.ticket for agent in found.working()] == ["a"]


def test_a_repeated_state_keeps_its_beginning() -> None:
    found = board(
        event("agent.state", "a", 2.0, state="generating", iterations=1),
        event("agent.state", "a", 8.0, state="generating", iterations=2),
    )
    assert (found.agents["a"].since, found.agents["a"].iteration) == (2.0, 2)


def test_of_many_agents_those_that_moved_last_are_shown_in_a_steady_order() -> None:
    found = board(*(event("agent.state", f"t{n:03}", float(n), state="generating") for n in range(100)))
    found = found.fold(event("agent.activity", "t000", 200.0, doing="edit"))
    assert [line.ticket for line in found.moving(3)] == ["t000", "t098", "t099"]
    assert found.moving(0) == ()


def test_a_board_never_changes() -> None:
    first = board(event("agent.state", "a", state="preparing"))
    first.fold(event("agent.state", "a", state="generating"))
    assert first.agents["a"].state == "preparing"


def test_text_from_agents_becomes_one_plain_line() -> None:
    found = board(event("agent.activity", "a", doing="one\n\x1b[2Jtwo" + "x" * 500))
    assert found.agents["a"].doing.startswith("one two")
    assert len(found.agents["a"].doing) <= 160


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=4
)
keys = st.sampled_from(["state", "reason", "iterations", "doing", "cost_usd", "tickets", "conclusion", "service"])
kinds = st.sampled_from(["run.started", "agent.state", "agent.activity", "model.call", "verdict", "sandbox.gone"])


@example([("run.started", None, {"tickets": float("inf")}), ("run.started", None, {"tickets": float("nan")})])
@example([("agent.state", "a", {"state": "generating", "iterations": 10**400})])
@given(st.lists(st.tuples(kinds, st.none() | st.text(), st.dictionaries(keys, junk)), max_size=8))
def test_no_event_breaks_it(events: list[tuple[EventKind, str | None, dict[str, Any]]]) -> None:
    found = Board()
    for kind, ticket, data in events:
        one = Event(kind, "r", ticket, data)
        found = found.fold(one)
        log_line(one)
    found.totals()
    found.moving(5)


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (event("run.started", tickets=3), "run r1 began, 3 tickets"),
        (event("agent.state", "a", state="generating", iterations=2), "a: generating (iteration 2)"),
        (event("agent.state", "a", state="failed", reason="out of budget"), "a: failed: out of budget"),
        (event("verdict", "a", conclusion="unproven", reason="key lost"), "a: verdict unproven: key lost"),
        (event("static.finished", "a", passed=False), "a: a static check fails"),
        (event("static.finished", "a", passed=True), None),
        (event("agent.activity", "a", doing="read"), None),
        (event("sandbox.gone", "a", times=1), "a: its sandbox is gone and forked anew"),
    ],
)
def test_log_lines(one: Event, line: str | None) -> None:
    assert log_line(one) == line
