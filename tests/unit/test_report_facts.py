"""harness.report: what is made out of rows and events. Times are whole seconds since a run that began at 1000."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from harness.report import Report, build
from harness.report.changes import same_backlog
from harness.report.facts import last_verdicts
from harness.report.proof import proof_of
from harness.report.spans import STEPS
from harness.store.tables import AgentRow, RunRow
from tasks.events import Event, EventKind

BEGAN = 1000.0


def run_row(*, ended: float | None = 100.0, state: str = "finished", agents: int | None = None, **more: Any) -> RunRow:
    limits = "{}" if agents is None else f'{{"limits": {{"agents": {agents}}}}}'
    fields: dict[str, Any] = {
        "id": "r1",
        "project": "shop",
        "base": "a" * 40,
        "state": state,
        "settings_digest": "d",
        "settings": limits,
        "spurline": "0.1.0",
        "tickets": 1,
        "started_at": BEGAN,
        "ended_at": None if ended is None else BEGAN + ended,
    }
    return RunRow(**{**fields, **more})


def agent_row(ticket: str, state: str = "verified", **more: Any) -> AgentRow:
    return AgentRow(**{"run": "r1", "ticket": ticket, "place": 0, "title": ticket.title(), "state": state, **more})


def event(kind: str, ticket: str | None, at: float, **data: Any) -> Event:
    return Event(cast(EventKind, kind), "r1", ticket, data, BEGAN + at)


def story(ticket: str, *steps: tuple[float, str]) -> list[Event]:
    """The agent's states, each from its moment on."""
    return [event("agent.state", ticket, at, state=state) for at, state in steps]


def report_of(events: Sequence[Event], *agents: AgentRow, run: RunRow | None = None, **more: Any) -> Report:
    rows = agents or (agent_row("one"),)
    return build(run or run_row(), rows, events, {}, **more)


def states(report: Report, place: int = 0) -> list[tuple[str, float, float]]:
    return [(span.state, span.began, span.ended) for span in report.tickets[place].spans]


def test_time_by_state_from_the_queue_to_the_end() -> None:
    events = story("one", (10, "preparing"), (20, "generating"), (50, "checking"), (55, "generating"), (70, "failed"))
    report = report_of(events, agent_row("one", "failed"))
    assert states(report) == [
        ("queued", 0, 10),
        ("preparing", 10, 20),
        ("generating", 20, 50),
        ("checking", 50, 55),
        ("generating", 55, 70),
    ]
    assert report.tickets[0].by_state() == {"queued": 10, "preparing": 10, "generating": 45, "checking": 5}


def test_an_agent_that_has_not_ended_is_known_up_to_the_last_event() -> None:
    events = story("one", (10, "preparing"), (20, "generating"))
    report = report_of(
        events,
        agent_row("one", "generating", started_at=BEGAN + 10),
        run=run_row(ended=None, state="running"),
        last_event_at=BEGAN + 33,
    )
    assert report.known_at == BEGAN + 33
    assert states(report)[-1] == ("generating", 20, 33)
    assert report.tickets[0].seconds == 23


def test_what_lies_between_two_processes_belongs_to_nobody() -> None:
    events = [
        event("run.started", None, 0),
        *story("one", (1, "preparing"), (2, "generating")),
        event("model.call", "one", 10, seconds=1),
        event("run.resumed", None, 60),
        *story("one", (70, "checking"), (80, "failed")),
    ]
    assert states(report_of(events, agent_row("one", "failed"))) == [
        ("queued", 0, 1),
        ("preparing", 1, 2),
        ("generating", 2, 10),
        ("generating", 60, 70),
        ("checking", 70, 80),
    ]


def test_a_clock_that_jumps_back_makes_no_negative_time() -> None:
    events = story("one", (10, "preparing"), (40, "generating"), (15, "checking"), (50, "failed"))
    report = report_of(events, agent_row("one", "failed"))
    assert all(span.seconds >= 0 for span in report.tickets[0].spans)
    assert sum(report.tickets[0].by_state().values()) == 50


def test_the_course_adds_up_to_the_time_that_was_worked() -> None:
    events = [*story("one", (10, "generating"), (43, "failed")), event("model.call", "one", 30, seconds=20, cost_usd=2)]
    course = report_of(events, agent_row("one", "failed")).course
    assert len(course.calls) == STEPS
    assert sum(course.working["generating"]) * course.step_s == pytest.approx(33)
    assert sum(course.calls) * course.step_s == pytest.approx(20)
    assert course.spent_usd[0] == 0
    assert course.spent_usd[-1] == 2


def test_slots_that_were_all_taken_while_tickets_waited() -> None:
    events = [*story("one", (0, "generating"), (80, "failed")), *story("two", (80, "generating"), (100, "failed"))]
    found = report_of(events, agent_row("one", "failed"), agent_row("two", "failed"), run=run_row(agents=1)).throughput
    assert (found.agents_limit, found.peak, found.mean, found.full_share) == (1, 1, 1.0, 0.8)
    assert (
        found.sentences[0] == "Every slot for agents (1) was taken, with tickets waiting for one, for 80 % of the run."
    )


def test_slots_are_counted_as_many_as_there_were_at_each_moment() -> None:
    events = [
        event("run.limits", None, 0, agents=2),
        *story("one", (0, "generating"), (80, "failed")),
        *story("two", (0, "generating"), (50, "failed")),
        event("run.limits", None, 60, agents=1),
        *story("three", (80, "generating"), (100, "failed")),
    ]
    rows = [agent_row(name, "failed") for name in ("one", "two", "three")]
    found = report_of(sorted(events, key=lambda one: one.at), *rows, run=run_row(agents=9)).throughput
    assert (found.agents_limit, found.peak, found.full_share) == (1, 2, 0.7)
    assert found.sentences[0].startswith("Every slot for agents (1 to 2) was taken")
    assert found.sentences[-1].endswith("2 at most of 1 to 2 allowed.")


def test_slots_are_not_short_where_nobody_waits() -> None:
    events = story("one", (0, "generating"), (100, "failed"))
    assert report_of(events, agent_row("one", "failed"), run=run_row(agents=1)).throughput.full_share == 0


def test_the_limits_that_a_run_notes_go_before_its_settings() -> None:
    events = [event("run.limits", None, 0, agents=7), *story("one", (0, "generating"), (100, "failed"))]
    found = report_of(events, agent_row("one", "failed"), run=run_row(agents=100)).throughput
    assert found.agents_limit == 7
    assert found.sentences[-1] == "1.0 agents worked at once on average, 1 at most of 7 allowed."


def test_waits_are_shares_of_working_time() -> None:
    events = [
        *story("one", (10, "generating"), (60, "failed")),
        *story("two", (0, "generating"), (50, "failed")),
        event("agent.waited", "one", 20, **{"for": "model_calls", "seconds": 11.0}),
        event("agent.waited", "one", 30, **{"for": "model_calls", "seconds": 20.0}),
        event("agent.waited", "two", 30, **{"for": "model_calls", "seconds": 10.0}),
        event("agent.waited", "two", 40, **{"for": "forks", "seconds": 0.1}),
        event("agent.waited", "one", 10, **{"for": "agents", "seconds": 10.0}),
    ]
    report = report_of(events, agent_row("one", "failed"), agent_row("two", "failed"))
    found = report.throughput
    assert [(one.limit, one.seconds, one.tickets, one.share) for one in found.waits] == [
        ("model_calls", 41.0, 2, 0.41),
        ("agents", 10.0, 1, 1.0),
        ("forks", 0.1, 1, 0.001),
    ]
    assert found.sentences[:2] == (
        "2 tickets waited for a place among the model calls in flight: 41 s in all, 41 % of all working time.",
        "1 ticket waited for a slot among the agents: 10 s in all, 100 % of all time in the queue.",
    )
    assert not any("forks" in sentence for sentence in found.sentences)
    assert report.tickets[0].waits == {"model_calls": 31.0, "agents": 10.0}


def test_nothing_limited_it_but_its_longest_ticket() -> None:
    noted = event("run.limits", None, 0, agents=5)
    events = [noted, *story("one", (0, "generating"), (95, "failed")), *story("two", (0, "generating"), (5, "failed"))]
    said = report_of(events, agent_row("one", "failed"), agent_row("two", "failed")).throughput.sentences
    assert said[:2] == ("No limit did.", "The longest ticket, one, took 1 min 35 s of 1 min 40 s: 95 % of the run.")


def test_a_run_that_noted_no_waits_is_not_said_to_have_had_none() -> None:
    said = report_of(story("one", (0, "generating"), (95, "failed")), agent_row("one", "failed")).throughput.sentences
    assert "No limit did." not in said
    assert "This run did not note its waits in front of other limits." in said


def test_a_reason_that_held_everybody_is_told() -> None:
    events = [event("fleet.held", None, 12, reason="the baseline is sick"), *story("one", (0, "generating"))]
    assert report_of(events).throughput.sentences[0] == "Everybody was held from 12 s on: the baseline is sick."


def test_a_run_of_nothing_is_reported() -> None:
    report = build(run_row(ended=None, state="running"), (), (), {})
    assert (report.seconds, report.states, report.throughput.longest) == (0, {}, None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("abcd", "abcd", True), ("abcd", "abce", True), ("abcd", "a", False), ("ab", "cd", False), ("", "", False)],
)
def test_which_runs_are_of_one_backlog(one: str, other: str, same: bool) -> None:
    assert same_backlog(set(one), set(other)) is same
    assert same_backlog(set(other), set(one)) is same


def test_what_changed_since_the_earlier_run() -> None:
    earlier = run_row(id="r0", base="b" * 40, started_at=0.0, ended_at=50.0)
    before = [agent_row("one", "failed", cost_usd=1.5), agent_row("two"), agent_row("old"), agent_row("slow", "failed")]
    now = [agent_row("one"), agent_row("two"), agent_row("new", "error"), agent_row("slow", "generating")]
    changes = report_of((), *now, earlier=(earlier, before)).changes
    assert changes is not None
    assert [(moved.ticket, moved.before, moved.after) for moved in changes.moved] == [("one", "failed", "verified")]
    assert (changes.new, changes.gone) == (("new",), ("old",))
    assert (changes.run, changes.seconds, changes.totals.verified, changes.totals.cost_usd) == ("r0", 50.0, 2, 1.5)


def test_the_verdict_that_a_ticket_ended_with_goes_before_later_words() -> None:
    events = [event("verdict", "one", 5, verdict="v1"), event("verdict", "one", 9, verdict="v2")]
    assert last_verdicts([agent_row("one", verdict="v1")], events) == {"one": "v1"}
    assert last_verdicts([agent_row("one"), agent_row("two")], events) == {"one": "v2"}


def test_a_document_of_another_version_is_no_crash() -> None:
    proof = proof_of("v1", {"checks": [{"name": 7}, "odd"], "forks": None, "notes": [1], "evidence": "x" * 20_000})
    assert proof.checks[0].name == "7"
    assert proof.notes == ("1",)
    assert len(proof.evidence) < 9_000


def test_the_share_of_the_cache() -> None:
    row = agent_row("one", input_tokens=10, cache_read_tokens=80, cache_write_tokens=10, output_tokens=1_000)
    report = report_of((), row, agent_row("two"))
    assert report.tickets[0].tokens.cache_share == 0.8
    assert report.tickets[1].tokens.cache_share is None
