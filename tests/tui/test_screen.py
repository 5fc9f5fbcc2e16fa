"""The screen, driven by keys: what stands on it, and what is asked of the feed."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from textual.widgets import Input

from tasks.errors import StoreError, UsageError
from tests.tui.memory_feed import BEGAN, detailed, fleet_feed, happened, told_feed
from tests.tui.screens import driven, rows, seen, shown, until, until_seen
from tui.agent_screen import AgentScreen
from tui.app import SpurlineApp
from tui.dialogs import Confirm, Limits
from tui.feed import Agent, Detail, Said


async def test_all_are_in_view_and_who_needs_a_person_comes_first() -> None:
    async with driven(fleet_feed(8)) as (app, pilot):
        await until(pilot, lambda: seen(app).splitlines()[1].strip() == "!#✗?✓-gciv=·" * 8)
        await until(pilot, lambda: "needs-human-00" in seen(app).splitlines()[4])
        assert len(shown(app)) == 96


@pytest.mark.parametrize(("key", "verb"), [("p", "pause"), ("r", "resume")])
async def test_what_can_be_taken_back_is_done_at_once(key: str, verb: str) -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (_, pilot):
        await pilot.press("3", key)
        await until_seen(pilot, f"$ spurline runs {verb} {feed.run.id} -t", f"{verb} is done")
    assert feed.asked == [(verb, ("generating-00",))]


async def test_a_cancel_asks_and_no_is_the_answer_at_hand() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (app, pilot):
        await pilot.press("3", "x")
        await until_seen(pilot, "Cancel generating-00?", f"$ spurline runs cancel {feed.run.id} -t generating-00")
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, Confirm))
        assert feed.asked == []
        await pilot.press("x")
        await until_seen(pilot, "Cancel generating-00?")
        await pilot.press("y")
        await until(pilot, lambda: bool(feed.asked))
    assert feed.asked == [("cancel", ("generating-00",))]


async def test_many_marked_agents_are_retried_together() -> None:
    feed = fleet_feed()
    async with driven(feed) as (app, pilot):
        await pilot.press("2", "asterisk")
        await until_seen(pilot, "marked: 4 tickets")
        await pilot.press("R")
        await until_seen(pilot, "Retry 4 tickets?")
        await pilot.press("y")
        await until(pilot, lambda: bool(feed.asked))
        await until(pilot, lambda: not rows(app).marks)
    assert feed.asked == [("retry", ("error-00", "failed-00", "needs-human-00", "unproven-00"))]


async def test_what_cannot_be_done_is_not_asked_for() -> None:
    feed = fleet_feed()
    async with driven(feed) as (_, pilot):
        await pilot.press("p")
        await until_seen(pilot, "nothing to pause")
    assert feed.asked == []


async def test_the_whole_run_is_paused_with_a_capital() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (_, pilot):
        await pilot.press("P")
        await until(pilot, lambda: bool(feed.asked))
    assert feed.asked == [("pause", ())]


async def test_limits_change_only_what_was_typed() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (app, pilot):
        await pilot.press("l")
        await until(pilot, lambda: isinstance(app.screen, Limits))
        app.screen.query_one("#checks", Input).value = "9"
        await until_seen(pilot, f"$ spurline runs limit {feed.run.id} --checks 9")
        await pilot.press("enter")
        await until(pilot, lambda: bool(feed.asked))
    assert feed.asked == [("limit", {"checks": 9})]


async def test_what_is_refused_is_said_in_its_own_words() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (app, pilot):
        await pilot.press("3")
        feed.failure = UsageError("the run was cancelled", hint="retry it [b]now[/b]")
        await app.run_action("act('pause')")
        await until_seen(pilot, "the run was cancelled", "[b]now[/b]")


async def test_the_filter_takes_effect_as_it_is_typed() -> None:
    async with driven(fleet_feed(3)) as (app, pilot):
        await pilot.press("slash", *"unproven")
        await until(pilot, lambda: len(shown(app)) == 3)
        await until_seen(pilot, "3 of 36 shown")
        await pilot.press("escape")
        await until(pilot, lambda: len(shown(app)) == 36)
        assert app.focused is rows(app)


async def test_the_cursor_stays_on_its_ticket_wherever_it_goes() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (app, pilot):
        rows(app).point("generating-00")
        feed.events.append(happened("agent.state", "generating-00", 99, state="error", reason="gone"))
        await until(pilot, lambda: "generating-00" in shown(app)[1:3])
        assert rows(app).current == "generating-00"


async def test_a_cursor_that_was_not_moved_is_at_the_top() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (app, pilot):
        await pilot.press("3")
        assert rows(app).current == "generating-00"
        # Whoever is heard of is stalled no more, and gives way to those who are.
        feed.events.append(happened("agent.activity", "generating-00", time.time() - BEGAN, doing="thinks"))
        await until(pilot, lambda: rows(app).current == "checking-00")


async def test_news_are_on_the_screen() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (_, pilot):
        now = time.time() - BEGAN
        feed.events.append(happened("agent.activity", "validating-00", now, doing="asks the gateway"))
        text = await until_seen(pilot, "asks the gateway")
        (line,) = [line for line in text.splitlines() if "asks the gateway" in line]
        assert line.split()[:3] == ["v", "validating-00", "validating"]
        # The others were last heard of when the run began: long ago.
        assert "G generating-00" in text
        assert "nothing heard for" in text


async def test_sorting_goes_round() -> None:
    async with driven(fleet_feed()) as (app, pilot):
        first = shown(app)
        await pilot.press("s")
        assert shown(app) == [agent.ticket for agent in fleet_feed().agents]
        await pilot.press("s", "s")
        assert shown(app)[0] == "queued-00"
        await pilot.press("s")
        assert shown(app) == first


async def test_all_pages_of_an_agent() -> None:
    feed = fleet_feed()
    events = [
        happened("agent.state", "failed-00", 1, state="preparing"),
        happened("agent.state", "failed-00", 4, state="generating", iterations=1),
        happened("agent.state", "failed-00", 30, state="failed", reason="out of budget"),
        happened("commit.made", "failed-00", 20, commit="c0ffee"),
    ]
    feed.details = {"failed-00": detailed("failed-00", events)}
    async with driven(feed, (110, 44)) as (app, pilot):
        rows(app).point("failed-00")
        await pilot.press("enter")
        await until_seen(pilot, "commit.made", "spurline/run/failed-00", "━", "26s")
        await pilot.press("2")
        assert "calls read" in await until_seen(pilot, "I read it first")
        await pilot.press("3")
        assert "-    return 1" in await until_seen(pilot, "+    return 2")
        await pilot.press("4")
        text = await until_seen(pilot, "56 hops prove", "expected status 201, got 404")
        assert "[bold]not markup[/bold]" in " ".join(text.split())
        assert "your fork" in text
        await pilot.press("7")
        await until_seen(pilot, "listening on 8080")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, AgentScreen))


async def test_a_live_conversation_comes_by_itself() -> None:
    feed = fleet_feed(state="running")
    feed.details = {"generating-00": detailed("generating-00")}
    async with driven(feed) as (app, pilot):
        rows(app).point("generating-00")
        await pilot.press("enter", "2")
        await until_seen(pilot, "I read it first")
        known = feed.details["generating-00"]
        feed.details = {"generating-00": replace(known, said=(*known.said, Said(BEGAN + 9, "agent", "now I see")))}
        await until_seen(pilot, "now I see")


async def test_from_one_agent_to_the_next() -> None:
    async with driven(fleet_feed()) as (_, pilot):
        await pilot.press("enter")
        await until_seen(pilot, "! needs-human-00")
        await pilot.press("n")
        await until_seen(pilot, "# error-00")
        await pilot.press("N")
        await until_seen(pilot, "! needs-human-00")


async def test_the_next_agent_is_the_one_after_that_which_is_looked_at_wherever_it_is_by_now() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (app, pilot):
        await pilot.press("enter")
        await until_seen(pilot, "! needs-human-00")
        feed.events.append(happened("agent.state", "needs-human-00", 96, state="queued", reason="carries on"))
        await until_seen(pilot, "· needs-human-00")
        await pilot.press("n")
        await until(pilot, lambda: app.chosen[0].ticket != "needs-human-00")
        (there,) = app.chosen
        await pilot.press("escape")
        listed = shown(app)
        assert listed[listed.index("needs-human-00") + 1] == there.ticket


async def test_nothing_that_an_agent_writes_is_obeyed() -> None:
    evil = "\x1b[2J\x1b]0;owned\x07[bold red]x[/] [@click=app.quit]y[/] \u202e דג 漢字" + "z" * 1_000_000
    feed = fleet_feed(state="running")
    feed.agents = (Agent("evil", title=evil, state="generating", heard=time.time(), since=time.time(), began=BEGAN),)
    known = detailed("evil", [happened("agent.state", "evil", 1, state="generating", reason=evil)])
    feed.details = {
        "evil": replace(
            known, facts=(("branch", evil),), said=(Said(BEGAN, "agent", evil),), diff=evil, logs=((0.0, evil, evil),)
        )
    }
    async with driven(feed) as (app, pilot):
        assert "[bold red]x[/]" in await until_seen(pilot, "evil")
        await pilot.press("enter")
        for page in "1234567":
            await pilot.press(page)
            await until(pilot, lambda: "reading" not in seen(app))
            text = seen(app)
            assert "\x1b" not in text
            assert "\u202e" not in text
            assert "owned" not in text


async def test_small_and_large_again() -> None:
    async with driven(fleet_feed(4, state="running")) as (app, pilot):
        for size in ((20, 5), (1, 1), (200, 60), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        assert "needs-human-00" in await until_seen(pilot, "verdict" if app.size.width > 96 else "doing")
        await pilot.press("enter")
        await pilot.resize_terminal(20, 5)
        await until_seen(pilot, "! needs-human-00")


async def test_a_replay_goes_through_the_story_and_back() -> None:
    feed = told_feed()
    async with driven(feed) as (app, pilot):
        await pilot.press("t")
        await until_seen(pilot, " replay ")
        await pilot.press("space", *["left"] * 60)
        await until(pilot, lambda: set(shown(app)) == {"users", "orders"} and "0/2 ended" in seen(app))
        await until_seen(pilot, "2 queued")
        await pilot.press(*["right"] * 10)
        await until_seen(pilot, "read services/users/api.py")
        await pilot.press("p")
        await until_seen(pilot, "this is the past")
        await pilot.press("escape")
        await until_seen(pilot, "2/2 ended")
    assert feed.asked == []


async def test_an_agent_in_a_replay_is_as_it_was_then() -> None:
    feed = told_feed()
    feed.details = {
        "users": replace(detailed("users"), events=tuple(event for event in feed.events if event.ticket == "users"))
    }
    async with driven(feed, at=BEGAN + 15) as (_, pilot):
        await until_seen(pilot, " replay ")
        await pilot.press("enter")
        text = await until_seen(pilot, "c checking")
        assert "validating" not in text
        await pilot.press("escape", "end", "t")
        await until_seen(pilot, "2/2 ended")
        await pilot.press("home", "enter")
        await until_seen(pilot, "v validating")


async def test_what_is_typed_in_a_replay_is_typed() -> None:
    async with driven(told_feed(), at=BEGAN + 15) as (app, pilot):
        await until_seen(pilot, " replay ")
        await pilot.press("slash", *"state:check", "space", *"us")
        await until(pilot, lambda: shown(app) == ["users"])


async def test_a_replay_begins_where_it_is_told_to() -> None:
    async with driven(told_feed(), at=BEGAN + 15) as (_, pilot):
        await until_seen(pilot, " replay ", "2 checking", "+15s")
        await pilot.press("space")
        await until_seen(pilot, "2/2 ended")


async def test_a_store_that_is_gone_is_said_and_waited_for() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (_, pilot):
        feed.failure = StoreError("the database is locked")
        await until_seen(pilot, "not up to date: the database is locked", "needs-human-00")
        feed.failure = None
        await until(pilot, lambda: "not up to date" not in seen(pilot.app))  # type: ignore[arg-type]  # it is ours


async def test_a_run_that_was_killed_says_who_can_go_on() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (_, pilot):
        feed.run = replace(feed.run, state="interrupted", worked_on=False)
        await until_seen(pilot, f"nobody works on it: `spurline runs resume {feed.run.id}` goes on")


async def test_a_run_that_ends_under_who_reads_says_so_and_stays() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed, (140, 30)) as (app, pilot):
        assert "ended;" not in seen(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, AgentScreen))
        last = happened("agent.state", "needs-human-00", 98, state="error", reason="at the very last")
        feed.details = {"needs-human-00": Detail("needs-human-00", (), (last,))}
        feed.run = replace(feed.run, state="cancelled", ended=BEGAN + 99, worked_on=False)
        await until_seen(pilot, "the run has ended", "cancelled: 1 verified, 1 failed, 1 unproven", "at the very last")
        await pilot.press("escape")
        await until_seen(pilot, "the run has ended; q leaves the screen · cancelled: 1 verified, 1 failed")
        feed.run = replace(feed.run, state="running", ended=0.0, worked_on=True)
        await until_seen(pilot, "nothing limits it")
        assert "q leaves the screen" not in seen(app)


async def test_help_is_drawn_from_what_is_focused() -> None:
    async with driven(fleet_feed(), (120, 60)) as (_, pilot):
        await pilot.press("question_mark")
        await until_seen(pilot, "Mark all shown", "Cancel")
        await pilot.press("question_mark")
        await until(pilot, lambda: "Mark all shown" not in seen(pilot.app))  # type: ignore[arg-type]  # it is ours


async def test_the_palette_knows_what_can_be_done() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (_, pilot):
        await pilot.press("ctrl+p")
        await pilot.pause(0.2)
        await pilot.press(*"pause the whole")
        await until_seen(pilot, "Pause the whole run")
        await pilot.press("enter", "enter")
        await until(pilot, lambda: bool(feed.asked))
    assert feed.asked == [("pause", ())]


async def test_no_chord_is_one_that_tmux_or_screen_eats() -> None:
    async with driven(fleet_feed()) as (app, _):
        keys = set(app.screen.active_bindings)
        assert "p" in keys
        assert not keys & {"ctrl+b", "ctrl+a"}


async def test_a_thousand_agents_and_a_thousand_events_at_once() -> None:
    feed = fleet_feed(84, state="running")
    async with driven(feed, (80, 24)) as (app, pilot):
        tickets = [agent.ticket for agent in feed.agents]
        feed.events += [
            happened("agent.activity", tickets[n % len(tickets)], 99, doing=f"step {n}") for n in range(1000)
        ]
        await until(pilot, lambda: feed.read == 1000)
        assert len(shown(app)) == 1008
        strip = seen(app).splitlines()[2:6]
        assert all(line.strip() for line in strip)
        await pilot.press("G")
        await until(pilot, lambda: rows(app).current == shown(app)[-1])
        await until_seen(pilot, str(rows(app).current))


async def test_leaving() -> None:
    for key in ("q", "ctrl+c", "ctrl+q"):
        app = SpurlineApp(fleet_feed())
        async with app.run_test() as pilot:
            await until_seen(pilot, "needs-human-00")
            await pilot.press(key)
        assert app.return_code == 0
