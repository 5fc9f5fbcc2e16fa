"""The fleet in groups: heads with counts, folded and unfolded, beside filters, marks and actions."""

from __future__ import annotations

from tasks.errors import StoreError
from tests.tui.memory_feed import MemoryFeed, fleet_feed, happened
from tests.tui.screens import driven, rows, seen, shown, until, until_seen
from tui.agent_screen import AgentScreen
from tui.app import SpurlineApp
from tui.dialogs import Confirm
from tui.grouping import Group


def heads(app: SpurlineApp) -> list[str]:
    return [item.name for item in rows(app)._items if isinstance(item, Group)]


def serviced() -> MemoryFeed:
    feed = fleet_feed(2, state="running")
    feed.changeable = {agent.ticket: ["users"] if agent.state == "failed" else ["orders"] for agent in feed.agents}
    return feed


async def test_one_key_goes_through_the_groups_and_back() -> None:
    async with driven(serviced(), (100, 50)) as (app, pilot):
        ungrouped = shown(app)
        await pilot.press("v")
        await until_seen(pilot, "grouped by state", "- needs_human 2", "- verified 2")
        await pilot.press("v")
        await until_seen(pilot, "grouped by service", "- orders 22", "- users 2  ✗ 2 failed")
        await pilot.press("v")
        text = await until_seen(pilot, "grouped by reason", "- out of budget after 4 iterations 2  ✗ 2 failed")
        assert "- waits for a free agent 2" in text
        await pilot.press("v")
        await until(pilot, lambda: not heads(app))
        assert shown(app) == ungrouped


async def test_services_that_cannot_be_looked_up_are_one_group() -> None:
    feed = fleet_feed()
    async with driven(feed) as (app, pilot):
        feed.failure = StoreError("the tickets cannot be read")
        await pilot.press("v", "v")
        await until_seen(pilot, "the tickets cannot be read", "- no service is known 12")
        feed.failure = None
        assert heads(app) == ["no service is known"]


async def test_a_group_is_folded_and_what_goes_on_in_it_is_counted() -> None:
    feed = fleet_feed(3, state="running")
    async with driven(feed, (80, 24)) as (app, pilot):
        await pilot.press("v", "down", "z")
        await until(pilot, lambda: "needs-human-01" not in seen(app))
        await until_seen(pilot, "+ needs_human 3", "- error 3")
        assert rows(app).current is None
        feed.events.append(happened("agent.state", "queued-01", 99, state="needs_human", reason="which one?"))
        await until_seen(pilot, "+ needs_human 4")
        assert "queued-01" not in shown(app)
        await pilot.press("enter")
        await until(pilot, lambda: "queued-01" in shown(app))
        await pilot.press("Z")
        await until(pilot, lambda: shown(app) == [])
        await until_seen(pilot, "+ verified 3")
        await pilot.press("Z")
        await until(pilot, lambda: len(shown(app)) == 36)


async def test_who_is_marked_in_a_folded_group_is_counted_on_its_head() -> None:
    async with driven(fleet_feed(3)) as (app, pilot):
        await pilot.press("v", "space", "space", "z")
        await until_seen(pilot, "+ needs_human 3  2 marked", "marked: needs-human-00, needs-human-01")
        # What is not shown is not meant by "all that are shown".
        await pilot.press("asterisk")
        assert rows(app).marks == {"needs-human-00", "needs-human-01"} | set(shown(app))


async def test_on_a_head_the_group_is_marked_and_acted_on() -> None:
    feed = fleet_feed(2)
    async with driven(feed) as (app, pilot):
        await pilot.press("v", "up", "R")
        await until_seen(pilot, "Retry needs-human-00, needs-human-01?")
        await pilot.press("n")
        await until(pilot, lambda: not isinstance(app.screen, Confirm))
        await pilot.press("space")
        await until_seen(pilot, "- needs_human 2  2 marked")
        await pilot.press("up", "space")
        await until(pilot, lambda: not rows(app).marks)
    assert feed.asked == []


async def test_a_filter_leaves_the_groups_of_whom_it_shows() -> None:
    async with driven(fleet_feed(3)) as (app, pilot):
        await pilot.press("v", "slash", *"state:un")
        await until(pilot, lambda: heads(app) == ["unproven"])
        await until_seen(pilot, "- unproven 3", "3 of 36 shown")
        await pilot.press("enter", "2")
        await pilot.press("escape")
        await until(pilot, lambda: heads(app) == ["needs_human", "error", "failed", "unproven"])


async def test_the_order_is_that_within_the_groups() -> None:
    async with driven(fleet_feed(2)) as (app, pilot):
        await pilot.press("v")
        by_state = heads(app)
        await pilot.press("s", "s", "s")
        await until_seen(pilot, "sorted by cost · grouped by state")
        assert heads(app) == by_state


async def test_from_one_agent_to_the_next_over_a_head() -> None:
    async with driven(fleet_feed()) as (app, pilot):
        await pilot.press("v", "enter")
        await until_seen(pilot, "! needs-human-00")
        await pilot.press("n")
        await until_seen(pilot, "# error-00")
        await pilot.press("N")
        await until_seen(pilot, "! needs-human-00")
        await pilot.press("N")
        await pilot.pause()
        assert isinstance(app.screen, AgentScreen)
        assert app.screen.ticket == "needs-human-00"


async def test_the_cursor_stays_with_its_agent_as_groups_come_and_go() -> None:
    feed = fleet_feed(2, state="running")
    async with driven(feed, (100, 50)) as (app, pilot):
        rows(app).point("generating-01")
        for _ in range(4):
            await pilot.press("v")
            assert rows(app).current == "generating-01"
        await pilot.press("v")
        feed.events.append(happened("agent.state", "generating-01", 99, state="verified", reason="all is proven"))
        await until_seen(pilot, "- verified 3")
        assert rows(app).current == "generating-01"


async def test_groups_on_a_screen_that_is_nearly_none() -> None:
    async with driven(fleet_feed(4, state="running")) as (_, pilot):
        await pilot.press("v")
        for size in ((20, 5), (1, 1), (40, 12), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.press("down", "z", "z", "G", "g")
        await until_seen(pilot, "- needs_human 4")


async def test_a_click_on_a_head_and_one_more_fold_it() -> None:
    async with driven(fleet_feed(2)) as (app, pilot):
        await pilot.press("v")
        await until_seen(pilot, "- needs_human 2")
        await pilot.click(rows(app), offset=(3, 1))
        await pilot.click(rows(app), offset=(3, 1))
        await until_seen(pilot, "+ needs_human 2")


async def test_it_begins_in_groups_and_the_palette_knows_them() -> None:
    app = SpurlineApp(fleet_feed(), by="reason")
    async with app.run_test(size=(100, 40)) as pilot:
        await until_seen(pilot, "- which currency is meant? 1")
        assert "Group" in {command.title for command in app.get_system_commands(app.screen)}
