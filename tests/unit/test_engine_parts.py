"""The supervisor's parts: limits that workers share, the clock of a ticket, what is started next, breakers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.ports import Caps as Rounds
from harness.engine.breakers import Breaker
from harness.engine.budget import Caps
from harness.engine.clock import TicketClock
from harness.engine.gates import AGED_S
from harness.engine.limits import Limits
from harness.engine.outlook import AFTER_FAULT, look_ahead, pressure, urgency
from harness.engine.overview import Overview
from harness.limits import checked, limits_of
from harness.settings import AgentSettings, LimitSettings
from harness.store.agents import WAITS
from harness.store.standings import Standing
from tasks.errors import UsageError
from tasks.states import FINAL_STATES, WORKING_STATES
from tests.unit.memory_ports import ticket


class Calls:
    """Whoever limits the model's calls."""

    model_calls = 1


ALL = limits_of(LimitSettings(), AgentSettings())


class Purse:
    """Whoever holds the budgets."""

    def __init__(self) -> None:
        self.run, self.ticket, self.single = Caps(), Caps(), dict[str, Caps]()

    def allow(self, *, run: Caps, ticket: Caps, single: Mapping[str, Caps]) -> None:
        self.run, self.ticket, self.single = run, ticket, dict(single)


def limits(
    changes: list[Mapping[str, float]] | None = None,
    own: int | None = None,
    before: Mapping[str, int] | None = None,
    purse: Purse | None = None,
) -> tuple[Limits, Calls]:
    calls = Calls()
    told = changes if changes is not None else []
    return (
        Limits(
            ALL,
            calls=calls,
            budget=purse or Purse(),
            urgency=lambda _: 0.0,
            waited=lambda *_: None,
            changed=told.append,
            own_agents=own,
            changed_before=before or {},
        ),
        calls,
    )


def test_workers_part_what_a_run_may_and_not_what_a_machine_may() -> None:
    changes: list[Mapping[str, float]] = []
    of_one, calls = limits(changes)
    assert (of_one.agents, calls.model_calls, of_one.gates["forks"].limit) == (100, 40, 8)
    assert of_one.agents_in_all is None
    of_one.change({}, workers=3)
    assert (of_one.agents, calls.model_calls, of_one.gates["forks"].limit) == (34, 14, 8)
    assert of_one.agents_in_all == 100
    assert changes == []
    of_one.change({"agents": 10, "forks": 2, "nonsense": 7}, workers=1)
    assert (of_one.agents, calls.model_calls, of_one.gates["forks"].limit) == (10, 40, 2)
    assert [sorted(change) for change in changes] == [sorted(ALL)]


def test_what_a_worker_was_told_holds_until_the_run_is_told_otherwise() -> None:
    of_one, _ = limits(own=7)
    assert of_one.agents == 7
    of_one.change({}, workers=2)
    assert (of_one.agents, of_one.agents_in_all) == (7, None)
    of_one.change({"agents": 60}, workers=2)
    assert (of_one.agents, of_one.agents_in_all) == (30, 60)
    # What the run was told before this worker is older than what this worker was told.
    of_one, _ = limits(own=7, before={"agents": 60})
    of_one.change({"agents": 60}, workers=2)
    assert of_one.agents == 7
    of_one.change({"agents": 50}, workers=2)
    assert of_one.agents == 25


def test_budgets_change_for_all_or_for_one_and_nothing_else_moves() -> None:
    purse = Purse()
    of_one, _ = limits(purse=purse)
    assert (purse.run.usd, purse.ticket.usd, purse.ticket.minutes, purse.single) == (200, 4, 60, {})
    assert (of_one.ticket_s("a"), of_one.rounds("a")) == (3600, Rounds(6, 10, 2))
    of_one.change(
        {"budget_usd": 9.5, "ticket_minutes": 30},
        single={"a": {"ticket_budget_usd": 8, "max_iterations": 20}, "b": {"ticket_minutes": 90, "ticket_nudges": 0}},
    )
    assert (purse.run.usd, purse.ticket.usd, purse.ticket.minutes) == (9.5, 4, 30)
    assert (purse.single["a"].usd, purse.single["a"].minutes, purse.single["b"].minutes) == (8, 30, 90)
    assert (of_one.ticket_s("a"), of_one.ticket_s("b"), of_one.ticket_s("c")) == (1800, 5400, 1800)
    assert (of_one.rounds("a"), of_one.rounds("b"), of_one.rounds("c")) == (
        Rounds(20, 10, 2),
        Rounds(6, 10, 0),
        Rounds(6, 10, 2),
    )
    # What is taken back is as it was.
    of_one.change({"budget_usd": 200})
    assert (purse.run.usd, purse.single) == (200, {})


@pytest.mark.parametrize(
    ("wanted", "single", "words"),
    [
        ({"ticket_faults": 1}, False, "'ticket_faults' cannot be changed"),
        ({"budget_usd": 0}, False, "--budget-usd 0: Input should be greater than 0"),
        ({"max_iterations": 101}, True, "--max-iterations 101"),
        ({"agents": 2.5}, False, "--agents 2.5"),
        ({"budget_usd": 5}, True, "--budget-usd is the whole run's"),
        ({"agents": 5}, True, "--agents is the whole run's"),
        ({"ticket_minutes": float("nan")}, True, "--ticket-minutes nan"),
    ],
)
def test_a_limit_that_is_none_is_refused(wanted: dict[str, float], single: bool, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        checked(wanted, single=single)


async def test_a_clock_that_is_given_more_goes_on_and_one_that_is_given_less_ends() -> None:
    clock = TicketClock(0.02, worked_s=10)
    async with clock:
        clock.allow(70)
        await asyncio.sleep(0.06)
    assert not clock.expired
    clock = TicketClock(60, worked_s=10)

    async def work() -> None:
        async with clock:
            clock.allow(5)
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await work()
    # One that waits for the environment, or hands over, is not ended by it.
    clock = TicketClock(60)
    async with clock:
        with clock.standing():
            clock.allow(0.01)
            await asyncio.sleep(0.03)
            clock.allow(60)
        clock.stand_still()
        clock.allow(0.01)
        await asyncio.sleep(0.03)
    assert not clock.expired


async def test_a_clock_counts_what_was_worked_before_and_not_what_was_waited_for() -> None:
    clock = TicketClock(60, worked_s=10)
    assert clock.worked_s == 10
    async with clock:
        with clock.standing():
            at_first = clock.worked_s
            await asyncio.sleep(0.05)
            assert clock.worked_s == at_first
        assert at_first >= 10
        assert clock.worked_s < 10.04


async def test_a_clock_that_is_over_ends_its_block() -> None:
    clock = TicketClock(0.02)
    with pytest.raises(TimeoutError):
        async with clock:
            await asyncio.sleep(30)
    assert clock.expired
    with pytest.raises(TimeoutError):
        clock.stand_still()


async def test_a_clock_that_stands_still_ends_nothing_and_goes_on_after() -> None:
    clock = TicketClock(0.05)

    async def work() -> None:
        async with clock:
            with clock.standing():
                await asyncio.sleep(0.1)
            assert not clock.expired
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await work()
    other = TicketClock(0.02)
    async with other:
        other.stand_still()
        await asyncio.sleep(0.06)
    assert not other.expired


async def test_a_clock_that_stands_still_for_two_reasons_goes_on_when_both_are_over() -> None:
    clock = TicketClock(0.05)

    async def work() -> None:
        async with clock:
            with clock.standing():
                with clock.standing():
                    await asyncio.sleep(0.1)
                await asyncio.sleep(0.1)
            assert not clock.expired
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await work()


async def test_a_clock_that_was_stopped_for_good_is_not_started_by_a_wait() -> None:
    clock = TicketClock(0.05)
    async with clock:
        clock.stand_still()
        with clock.standing():
            pass
        await asyncio.sleep(0.1)
    assert not clock.expired


def standing(name: str, state: str = "queued", **fields: object) -> Standing:
    plain = Standing(name, state, "", 1, None, 0.0, 0, 0.0, 0, False, 0, "{}")
    return replace(plain, **fields)  # type: ignore[arg-type]  # the tests name the fields


def test_what_is_begun_comes_first_then_priority_then_the_backlog() -> None:
    tickets = [ticket("a"), ticket("b", priority=2), ticket("c"), ticket("d"), ticket("e")]
    standings = {
        "a": standing("a"),
        "b": standing("b"),
        "c": standing("c", "validating", iterations=1),
        "d": standing("d", "paused", iterations=3),
        "e": standing("e", "generating", holder="w"),
    }
    outlook = look_ahead(tickets, standings, wish="", now=0.0)
    assert outlook.ready == ("d", "c", "b", "a")
    assert not outlook.held
    assert not outlook.over


def test_each_that_is_not_started_has_its_reason() -> None:
    tickets = [ticket("a"), ticket("b", depends=("a",)), ticket("c", depends=("x",)), ticket("d"), ticket("e")]
    standings = {
        "a": standing("a", "generating", holder="w"),
        "b": standing("b"),
        "c": standing("c", wish="paused"),
        "d": standing("d", not_before=10.0),
        "e": standing("e", wish="cancelled"),
    }
    outlook = look_ahead(tickets, standings, wish="", now=5.0)
    assert outlook.held == {
        "b": "depends on 'a', which has not ended",
        "c": "paused by the user",
        "d": AFTER_FAULT,
    }
    assert outlook.doomed == {"e": "cancelled by the user"}
    everything = look_ahead(tickets, standings, wish="paused", now=50.0)
    assert set(everything.held.values()) == {"paused by the user"}
    assert WAITS not in everything.held.values()


@given(
    st.lists(
        st.tuples(
            st.sampled_from((*WORKING_STATES, *FINAL_STATES)),
            st.sampled_from(("", "paused", "cancelled")),
            st.booleans(),
            st.sets(st.integers(0, 7), max_size=2),
        ),
        max_size=8,
    ),
    st.sampled_from(("", "paused", "cancelled")),
)
def test_every_ticket_is_in_exactly_one_place(rows: list[tuple[str, str, bool, set[int]]], wish: str) -> None:
    tickets = [
        ticket(f"t{number}", depends=tuple(f"t{other}" for other in sorted(depends) if other < number))
        for number, (_, _, _, depends) in enumerate(rows)
    ]
    standings = {
        f"t{number}": standing(f"t{number}", state, wish=own, holder="w" if held and state in WORKING_STATES else None)
        for number, (state, own, held, _) in enumerate(rows)
    }
    outlook = look_ahead(tickets, standings, wish=wish, now=0.0)
    ended = [name for name, one in standings.items() if one.state in FINAL_STATES]
    at_work = [name for name, one in standings.items() if one.holder is not None]
    assert sorted([*outlook.ready, *outlook.held, *outlook.doomed, *ended, *at_work]) == sorted(standings)
    assert outlook.over == (len(ended) == len(standings))
    for name in outlook.ready:
        (one,) = [each for each in tickets if each.id == name]
        assert all(standings[wanted].state == "verified" for wanted in one.depends)


def test_a_ticket_near_its_end_is_more_urgent() -> None:
    assert urgency(standing("a", "submitting", iterations=1)) > urgency(standing("b", "generating", iterations=1))
    assert urgency(standing("a", "generating", iterations=2)) > urgency(standing("b", "validating", iterations=1))


def test_what_has_a_sandbox_comes_to_its_checks_before_hundreds_that_have_none() -> None:
    begins = pressure(standing("a", "checking", iterations=1)) + 3600 / AGED_S
    assert pressure(standing("b", "validating", iterations=1)) > begins
    assert pressure(standing("c", "checking", iterations=2)) > begins
    assert pressure(standing("d", "submitting", iterations=1)) > pressure(standing("b", "validating", iterations=1))


async def test_a_breaker_is_told_once_however_many_meet_the_fault() -> None:
    told: list[tuple[str, str | None]] = []
    wrong: list[str | None] = ["still sick", None]

    async def probe() -> str | None:
        return wrong.pop(0)

    breaker = Breaker("baseline", lambda name, why, _: told.append((name, why)), probe=probe, first_try_s=0.01)
    await breaker.wait()
    for _ in range(5):
        breaker.trip("sick")
    assert breaker.reason == "sick"
    async with asyncio.timeout(10):
        await asyncio.gather(*(breaker.wait() for _ in range(5)))
    assert told == [("baseline", "sick"), ("baseline", None)]
    assert breaker.open_s == 0
    await breaker.aclose()


async def test_who_waits_without_a_probe_tries_in_turn() -> None:
    breaker = Breaker("model", lambda *_: None, first_try_s=0.01, longest_try_s=0.3)
    breaker.trip("529")
    through: list[int] = []

    async def wait(number: int) -> None:
        await breaker.wait()
        through.append(number)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(wait(number))
        await asyncio.sleep(0.1)
        assert len(through) == 1
        breaker.mend()
    assert sorted(through) == [0, 1, 2]


async def test_the_pause_between_tries_grows_with_the_tries_and_not_with_those_who_meet_the_fault() -> None:
    now = 0.0
    breaker = Breaker("model", lambda *_: None, first_try_s=2.0, longest_try_s=60.0, clock=lambda: now)
    for _ in range(100):
        breaker.trip("529")
    now = 2.0
    async with asyncio.timeout(5):
        await breaker.wait()
    breaker.trip("529")
    now = 6.0
    async with asyncio.timeout(5):
        await breaker.wait()
    assert breaker.reason == "529"


def test_what_is_being_handed_over_is_not_taken_back() -> None:
    tickets = [ticket("a"), ticket("b")]
    standings = {
        "a": standing("a", "submitting", wish="cancelled", iterations=1),
        "b": standing("b", "validating", iterations=1),
    }
    outlook = look_ahead(tickets, standings, wish="", now=0.0)
    assert outlook.ready == ("a", "b")
    everything = look_ahead(tickets, standings, wish="cancelled", now=0.0)
    assert (everything.ready, everything.doomed) == (("a",), {"b": "cancelled by the user"})


async def test_what_is_shared_is_asked_for_by_one_at_a_time() -> None:
    """What a worker gives back is reckoned from what it uses as it asks: two that ask at once would count on both."""
    asking, most = 0, 0

    async def share() -> None:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await asyncio.sleep(0)
        asking -= 1

    nothing = cast(Any, None)
    overview = Overview(
        claims=nothing, standings=nothing, limits=nothing, clocks={}, wished=nothing, share=share, short=nothing
    )
    await asyncio.gather(overview.share(), overview.share())
    assert (asking, most) == (0, 1)
