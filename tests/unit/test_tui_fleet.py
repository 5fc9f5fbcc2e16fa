"""What the screen knows of a run: pure folds of events, orders, filters, estimates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tasks.errors import UsageError
from tasks.states import FINAL_STATES, WORKING_STATES
from tasks.text import short_span
from tests.tui.memory_feed import BEGAN, fleet_feed, happened, told_feed
from tui.acting import command, concerned, limit_command
from tui.feed import Agent, Run, Snapshot
from tui.filtering import IS, VIEWS, matching
from tui.fleet import STALLED_S, Fleet, fleet_of, left_s, limiting, orders, per_minute, stalled, unbegun
from tui.replay import Player, Story, moment_of
from tui.saved_filters import BUILT_IN
from tui.signs import SIGNS, doing, fitted, sign, style

NOW = BEGAN + 100
RUN = Run("r", "shop", "running", BEGAN, worked_on=True, limits={"agents": 2})


def test_a_story_told_from_the_beginning_is_the_snapshot_at_its_end() -> None:
    feed = told_feed()
    told = unbegun(feed.run, feed.agents).after(feed.events)
    shown = fleet_of(Snapshot(feed.run, feed.agents, tuple(feed.events)))
    for ticket, agent in told.agents.items():
        other = shown.agents[ticket]
        assert (agent.state, agent.reason, agent.verdict) == (other.state, other.reason, other.verdict)
        assert (agent.began, agent.ended, agent.cost_usd) == (other.began, other.ended, other.cost_usd)
        assert agent.since == other.since


def test_the_rows_of_a_snapshot_hold_and_its_events_only_add() -> None:
    agent = Agent("users", state="validating", cost_usd=3.0, began=BEGAN)
    recent = (
        happened("model.call", "users", 1, cost_usd=3.0),
        happened("agent.state", "users", 2, state="validating"),
        happened("agent.activity", "users", 3, doing="read app.py"),
    )
    found = fleet_of(Snapshot(RUN, (agent,), recent)).agents["users"]
    assert (found.cost_usd, found.since, found.heard, found.doing) == (3.0, BEGAN + 2, BEGAN + 3, "read app.py")


def test_who_is_not_in_the_last_events_was_silent_since_the_first_of_them() -> None:
    agent = Agent("users", state="generating", began=BEGAN)
    for after, silent in ((10, True), (95, False)):
        found = fleet_of(Snapshot(RUN, (agent,), (happened("agent.activity", "orders", after, doing="x"),)))
        assert found.agents["users"].heard == BEGAN + after
        assert stalled(found.agents["users"], BEGAN + 150) == silent


def test_what_is_done_is_forgotten_with_the_state() -> None:
    fleet = Fleet({"users": Agent("users", state="generating", doing="bash: make")})
    assert fleet.after([happened("agent.state", "users", 1, state="checking")]).agents["users"].doing == ""


def test_a_retry_begins_anew() -> None:
    ended = Agent("users", title="Mend", state="failed", iteration=4, cost_usd=2.0, ended=NOW)
    found = Fleet({"users": ended}).after([happened("agent.state", "users", 101, state="queued", attempt=2)])
    agent = found.agents["users"]
    assert (agent.state, agent.attempt, agent.iteration, agent.cost_usd, agent.title) == ("queued", 2, 0, 0.0, "Mend")


@pytest.mark.parametrize("state", WORKING_STATES)
def test_idle_is_not_stalled(state: str) -> None:
    agent = Agent("users", state=state, heard=NOW - STALLED_S - 1)
    assert stalled(agent, NOW) == (state not in ("queued", "paused"))
    assert not stalled(replace(agent, heard=NOW - 1), NOW)


def test_the_order_of_attention() -> None:
    agents = list(fleet_of(Snapshot(fleet_feed().run, fleet_feed().agents)).agents.values())
    silent = replace(agents[6], ticket="silent", heard=BEGAN - 1000)
    failing = replace(agents[6], ticket="failing", verdict="failed")
    found = sorted([*agents, silent, failing], key=orders(NOW)["attention"])
    names = [agent.ticket.removesuffix("-00") for agent in found]
    assert names[:6] == ["needs-human", "error", "silent", "failed", "unproven", "failing"]
    assert names[-4:] == ["paused", "queued", "cancelled", "verified"]


def test_every_state_has_a_sign_of_its_own() -> None:
    assert set(SIGNS) == {*FINAL_STATES, *WORKING_STATES}
    calm = [sign(Agent("a", state=state, heard=NOW), NOW) for state in SIGNS]
    late = [sign(Agent("a", state=state), NOW) for state in SIGNS if stalled(Agent("a", state=state), NOW)]
    assert len({*calm, *late}) == len(calm) + len(late)
    assert all(cell_len(one) == 1 for one in (*calm, *late))


def test_a_stalled_agent_says_since_when() -> None:
    agent = Agent("users", state="generating", doing="bash", heard=NOW - 185)
    assert doing(agent, NOW).startswith("nothing heard for 3m05")
    assert style(agent, NOW) == "stalled"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (59.9, "59s"), (185, "3m05"), (7800, "2h10"), (90_000, "1d01"), (1109 * 86_400, "1109d")],
)
def test_spans_in_five_cells(seconds: float, text: str) -> None:
    assert short_span(seconds) == text


@given(st.text(max_size=60), st.integers(0, 40))
def test_a_cell_keeps_its_width(text: str, width: int) -> None:
    from tasks.text import one_line

    assert cell_len(fitted(one_line(text), width)) == width


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("failed", ["failed-00"]),
        ("state:v", ["unproven-00", "verified-00", "validating-00"]),
        ("budget", ["failed-00"]),
        ("state:ing !state:v", ["generating-00", "checking-00", "instantiating-00"]),
        ("!-00", []),
        ("is:idle", ["paused-00", "queued-00"]),
        ("is:attention !state:ed", ["error-00", "unproven-00"]),
        ("service:pay", ["failed-00", "queued-00"]),
        ("service:pay is:ended", ["failed-00"]),
        ("is:nothing", []),
    ],
)
def test_filters(text: str, found: list[str]) -> None:
    fits = matching(text, {"failed-00": ("payments", "users"), "queued-00": ("Payments",), "verified-00": ("users",)})
    assert [agent.ticket for agent in fleet_feed().agents if fits(agent, NOW)] == found


def test_the_idle_are_not_the_stalled() -> None:
    silent = {state: Agent(state, state=state, heard=NOW - STALLED_S - 1) for state in ("queued", "paused", "checking")}
    by_filter = {name: {one for one, agent in silent.items() if IS[name](agent, NOW)} for name in ("idle", "stalled")}
    assert by_filter == {"idle": {"queued", "paused"}, "stalled": {"checking"}}


@pytest.mark.parametrize("text", BUILT_IN.values(), ids=BUILT_IN)
def test_a_filter_that_is_always_there_says_something(text: str) -> None:
    asked = [word.partition(":") for word in text.split()]
    assert all(name in ("state", "verdict") or value in IS for name, _, value in asked)


def test_the_views_part_the_fleet() -> None:
    agents = fleet_feed().agents
    shown = {name: {agent.ticket for agent in agents if fits(agent, NOW)} for name, fits in VIEWS.items()}
    assert shown["all"] == {agent.ticket for agent in agents}
    assert shown["ended"] | shown["working"] | shown["queued"] == shown["all"]
    assert "needs-human-00" in shown["attention"]
    assert "verified-00" not in shown["attention"]


def test_what_limits_the_run() -> None:
    busy = {name: Agent(name, state="generating", heard=NOW) for name in ("a", "b")}
    fleet = Fleet({**busy, "c": Agent("c", state="queued")})
    assert limiting(fleet, RUN, NOW) == "agents (all 2 slots taken, 1 queued)"
    waits = [happened("agent.waited", "a", 90, **{"for": "model_calls", "seconds": 12.5})]
    assert "model_calls (12 s waited" in limiting(fleet.after(waits), RUN, NOW)
    assert "model_calls" not in limiting(fleet.after(waits), RUN, NOW + 120)
    held = fleet.after([happened("fleet.held", None, 91, by="model", reason="529")])
    assert limiting(held, RUN, NOW) == "everything waits for the model: 529"
    assert limiting(held.after([happened("fleet.free", None, 92, by="model")]), RUN, NOW).startswith("agents")
    assert limiting(fleet, replace(RUN, worked_on=False), NOW) == ""


def test_pace_and_estimate() -> None:
    ended = {str(n): Agent(str(n), state="verified", began=BEGAN, ended=BEGAN + 60) for n in range(3)}
    fleet = Fleet({**ended, **{f"q{n}": Agent(f"q{n}") for n in range(4)}})
    assert per_minute(fleet, BEGAN, BEGAN + 60) == pytest.approx(3.0)
    assert per_minute(fleet, BEGAN, BEGAN) == 0.0
    assert left_s(fleet, RUN) == pytest.approx(120.0)
    assert left_s(Fleet({"0": ended["0"], "q": Agent("q")}), RUN) is None


def test_events_of_a_later_version_do_no_harm() -> None:
    strange = [
        happened("agent.state", "users", 1),
        happened("agent.state", "users", 2, state=None, iterations="many", reason=7),
        happened("model.call", "users", 3, cost_usd="free"),
        happened("verdict", "users", 4, conclusion=["x"]),
        happened("fleet.held", None, 5),
    ]
    agent = Fleet().after(strange).agents["users"]
    assert (agent.state, agent.cost_usd, agent.model_calls) == ("queued", 0.0, 1)
    assert sign(replace(agent, state="dreaming", heard=NOW), NOW) == "~"


def test_a_story_at_any_moment_is_its_events_until_then() -> None:
    feed = fleet_feed()
    events = [
        happened("agent.state", f"t{n % 7}", n / 10, state="generating" if n % 2 else "checking") for n in range(3500)
    ]
    start = unbegun(feed.run, feed.agents)
    story = Story(start, events)
    # On, a little further, back again.
    for after in (0.0, 99.9, 100.0, 100.3, 101.0, 200.05, 349.9, 349.9, 100.1, 5.0):
        until = [event for event in events if event.at <= BEGAN + after]
        assert story.at(BEGAN + after) == start.after(until)


def test_a_long_story_keeps_a_hundred_fleets() -> None:
    story = Story(Fleet(), [happened("model.call", "t", n / 1000, cost_usd=1.0) for n in range(150_000)])
    assert len(story._kept) <= 101
    for after in (149.0, 75.0, 75.001, 0.0):
        assert story.at(BEGAN + after).agents["t"].model_calls == round(after * 1000) + 1


def test_a_player_keeps_inside_the_story() -> None:
    feed = told_feed()
    player = Player(Story(unbegun(feed.run, feed.agents), feed.events))
    assert player.playing
    player.advance(1.0)
    assert player.moment == pytest.approx(BEGAN + 10)
    player.step(-1)
    assert (player.moment, player.share) == (BEGAN, 0.0)
    player.advance(1000)
    assert (player.moment, player.share, player.playing) == (BEGAN + 42, 1.0, False)
    player.toggle()
    assert (player.moment, player.playing) == (BEGAN, True)
    player.faster(1)
    assert player.speed == 30.0
    player.faster(-1)
    player.faster(-1)
    assert player.speed == 5.0


@pytest.mark.parametrize(("text", "after"), [("+90", 90), ("+1m30s", 90), ("+2h", 7200), ("+0", 0)])
def test_moments_after_the_beginning(text: str, after: float) -> None:
    assert moment_of(text, BEGAN) == BEGAN + after


def test_moments_of_the_day() -> None:
    import time

    later = time.localtime(BEGAN + 61)
    assert moment_of(time.strftime("%H:%M:%S", later), BEGAN) == BEGAN + 61
    assert moment_of(time.strftime("%Y-%m-%dT%H:%M:%S", later), BEGAN) == BEGAN + 61
    before = time.strftime("%H:%M:%S", time.localtime(BEGAN - 3600))
    assert moment_of(before, BEGAN) == BEGAN - 3600 + 86_400


@pytest.mark.parametrize("text", ["", "soon", "+", "+5x", "25:00", "12", "+m"])
def test_no_moments(text: str) -> None:
    with pytest.raises(UsageError, match="no moment"):
        moment_of(text, BEGAN)


def test_the_command_line_that_does_the_same() -> None:
    assert command(replace(RUN, id="r1"), "pause", ()) == "spurline runs pause r1"
    assert command(replace(RUN, id="r1"), "cancel", ("a", "b")) == "spurline runs cancel r1 -t a -t b"
    assert (
        limit_command(replace(RUN, id="r1"), {"agents": 5, "model_calls": 2})
        == "spurline runs limit r1 --agents 5 --model-calls 2"
    )


def test_only_those_are_concerned_to_whom_it_can_be_done() -> None:
    agents = fleet_feed().agents
    retried = {ticket.removesuffix("-00") for ticket in concerned("retry", agents)}
    assert retried == {"needs-human", "error", "failed", "unproven", "cancelled"}
    assert set(concerned("cancel", agents)) | set(concerned("retry", agents)) == {
        agent.ticket for agent in agents if agent.state != "verified"
    }
