"""What is done to agents with words, and with numbers: by keys, on one or many, with the command that does the same."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from textual.widgets import Button, Input, TextArea

from harness.limits import AT_ONCE, OF_RUN, OF_TICKET
from tests.tui.memory_feed import BEGAN, fleet_feed, told_feed
from tests.tui.screens import driven, rows, until, until_seen
from tui.acting import Done, Verb, concerned, written_command
from tui.agent_screen import AgentScreen
from tui.dialogs import Confirm, Keep, Limits
from tui.feed import LIMITS, RUN_BUDGETS, TICKET_BUDGETS, Agent, Run
from tui.writing import Writing


async def test_a_note_of_two_lines_is_written_to_one_agent() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (app, pilot):
        rows(app).point("generating-00")
        await pilot.press("w")
        await until_seen(pilot, "A note to generating-00")
        # Nothing is no note, and keys of the list are letters here.
        await pilot.press("ctrl+s", *"quick", "enter", *"px", "space", "q")
        text = await until_seen(pilot, f"$ spurline runs note {feed.run.id} -t generating-00")
        assert "'quick" in text
        await pilot.press("ctrl+s")
        await until_seen(pilot, "note is done")
        assert not isinstance(app.screen, Writing)
    assert feed.asked == [("note", ("generating-00",), "quick\npx q")]


async def test_a_question_stands_above_its_answer() -> None:
    feed = fleet_feed(state="running")
    feed.agents = tuple(
        replace(agent, reason="which [b]currency[/b]?") if agent.state == "needs_human" else agent
        for agent in feed.agents
    )
    async with driven(feed) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, AgentScreen))
        await pilot.press("a")
        await until_seen(pilot, "An answer to needs-human-00", "which [b]currency[/b]?")
        await pilot.press(*"euros")
        app.screen.query_one("#send", Button).press()
        await until_seen(pilot, "answer is done", "needs-human-00 euros")
    assert feed.asked == [("answer", ("needs-human-00",), "euros")]


async def test_many_marked_agents_carry_on_and_need_no_words() -> None:
    feed = fleet_feed()
    async with driven(feed) as (app, pilot):
        await pilot.press("2", "asterisk")
        await until_seen(pilot, "marked: 4 tickets")
        await pilot.press("c")
        await until_seen(pilot, "Carry on with 4 tickets", "out of budget after 4", "--carry-on")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: bool(feed.asked))
        await until(pilot, lambda: not rows(app).marks)
    assert feed.asked == [("carry on", ("error-00", "failed-00", "needs-human-00", "unproven-00"), "")]


async def test_what_was_begun_to_be_written_can_be_left() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (app, pilot):
        rows(app).point("generating-00")
        await pilot.press("w", *"no", "escape")
        await until(pilot, lambda: not isinstance(app.screen, Writing))
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, Writing))
        assert app.screen.query_one(TextArea).text == ""
        app.screen.query_one("#leave", Button).press()
        await until(pilot, lambda: not isinstance(app.screen, Writing))
    assert feed.asked == []


@pytest.mark.parametrize(("key", "verb"), [("a", "answer"), ("c", "carry on")])
async def test_who_works_is_neither_answered_nor_carried_on(key: str, verb: str) -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (app, pilot):
        rows(app).point("generating-00")
        await pilot.press(key)
        await until_seen(pilot, f"nothing to {verb}", "generating-00: generating")
    assert feed.asked == []


@pytest.mark.parametrize(("key", "title"), [("w", "A note to"), ("a", "An answer to"), ("c", "Carry on with")])
async def test_writing_fits_on_a_small_screen(key: str, title: str) -> None:
    feed = fleet_feed(state="running")
    async with driven(feed, (40, 12)) as (app, pilot):
        rows(app).point({"w": "generating-00"}.get(key, "needs-human-00"))
        await pilot.press(key)
        await until_seen(pilot, title)
        assert app.screen.query_one(TextArea).region.height > 0


async def test_budgets_of_one_agent_are_changed_alone() -> None:
    feed = fleet_feed(state="running")
    feed.agents = tuple(
        replace(agent, budgets={"ticket_minutes": 90}) if agent.ticket == "generating-00" else agent
        for agent in feed.agents
    )
    async with driven(feed, (100, 40)) as (app, pilot):
        rows(app).point("generating-00")
        await pilot.press("b")
        await until(pilot, lambda: isinstance(app.screen, Limits))
        # Its own, else those of all tickets; nothing that is the whole run's.
        assert app.screen.query_one("#ticket_minutes", Input).value == "90"
        assert app.screen.query_one("#ticket_budget_usd", Input).value == "4"
        assert not app.screen.query("#budget_usd")
        app.screen.query_one("#ticket_budget_usd", Input).value = "7.5"
        app.screen.query_one("#max_iterations", Input).value = "9"
        await until_seen(
            pilot, f"$ spurline runs limit {feed.run.id} -t generating-00", "--ticket-budget-usd 7.5 --max-iterations 9"
        )
        await pilot.press("enter")
        await until(pilot, lambda: bool(feed.asked))
    assert feed.asked == [("limit", {"ticket_budget_usd": 7.5, "max_iterations": 9}, "generating-00")]


async def test_budgets_of_the_run_are_for_all() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed, (100, 40)) as (app, pilot):
        await pilot.press("B")
        await until(pilot, lambda: isinstance(app.screen, Limits))
        app.screen.query_one("#budget_usd", Input).value = "250"
        await until_seen(pilot, f"$ spurline runs limit {feed.run.id} --budget-usd 250")
        await pilot.press("enter")
        await until(pilot, lambda: bool(feed.asked))
    assert feed.asked == [("limit", {"budget_usd": 250})]


async def test_sandboxes_of_many_are_kept_for_as_long_as_is_typed() -> None:
    feed = fleet_feed(state="running")
    async with driven(feed) as (app, pilot):
        await pilot.press("3", "space", "down", "space", "K")
        await until(pilot, lambda: isinstance(app.screen, Keep))
        box = app.screen.query_one(Input)
        box.value = "soon"
        await until_seen(pilot, "a time such as 30m or 2h")
        await pilot.press("enter")
        assert isinstance(app.screen, Keep)
        box.value = "90m"
        await until_seen(pilot, f"$ spurline runs keep {feed.run.id} -t", "--for 90m")
        await pilot.press("enter")
        await until_seen(pilot, "keep is done")
        await until(pilot, lambda: not rows(app).marks)
    ((verb, tickets, for_s),) = feed.asked
    assert (verb, len(tickets), for_s) == ("keep", 2, 5400)


@pytest.mark.parametrize(
    ("verb", "warning"), [("retry", "Each begins anew, and costs anew."), ("cancel", "That is for good")]
)
async def test_what_costs_or_destroys_is_asked_for_the_whole_run(verb: Done, warning: str) -> None:
    feed = fleet_feed(state="running")
    feed.run = replace(feed.run, cli="spurline -C /shop")
    async with driven(feed) as (app, pilot):
        title = {"retry": "Retry all that was not verified", "cancel": "Cancel the whole run"}[verb]
        (offered,) = (one for one in app.get_system_commands(app.screen) if one.title == title)
        offered.callback()
        await until_seen(pilot, f"{verb.capitalize()} the whole run? {warning}", f"$ spurline -C /shop runs {verb}")
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, Confirm))
        assert feed.asked == []
        offered.callback()
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until_seen(pilot, f"{verb} is done", f"$ spurline -C /shop runs {verb}")
    assert feed.asked == [(verb, ())]


async def test_where_nobody_is_left_the_whole_run_is_not_asked_about() -> None:
    feed = fleet_feed()
    feed.agents = tuple(agent for agent in feed.agents if agent.state == "verified")
    async with driven(feed) as (app, pilot):
        app.action_act_all("retry")
        await until_seen(pilot, "nothing to retry", "there is nobody left for it")
    assert feed.asked == []


async def test_all_of_it_stands_in_the_palette() -> None:
    async with driven(fleet_feed(state="running")) as (app, _):
        names = {command.title for command in app.get_system_commands(app.screen)}
    assert names >= {"Note", "Answer", "Carry on", "Budgets", "Budgets of the run", "Keep"}


async def test_nothing_is_done_to_the_past() -> None:
    feed = told_feed()
    async with driven(feed, at=BEGAN + 15) as (app, pilot):
        await until_seen(pilot, " replay ")
        for key in "wacbBKl":
            await pilot.press(key)
        await until_seen(pilot, "this is the past")
        assert len(app.screen_stack) == 1
    assert feed.asked == []


def test_the_screen_knows_every_budget() -> None:
    assert (set(LIMITS), RUN_BUDGETS, TICKET_BUDGETS) == (set(AT_ONCE), OF_RUN, OF_TICKET)


RUN = Run("r1", "shop", "running", BEGAN)


def test_the_command_says_what_is_done() -> None:
    words = "don't\nuse --dollars"
    for verb, wanted in (
        ("note", ["note", "r1", "-t", "a", "-t", "b", words]),
        ("answer", ["answer", "r1", "-t", "a", "-t", "b", words]),
        ("carry on", ["retry", "r1", "-t", "a", "-t", "b", "--carry-on", "--note", words]),
    ):
        line = written_command(RUN, verb, ["a", "b"], words)  # type: ignore[arg-type]  # one of the verbs
        assert shlex.split(line) == ["spurline", "runs", *wanted]
    assert written_command(RUN, "carry on", ["a"], "") == "spurline runs retry r1 -t a --carry-on"
    elsewhere = replace(RUN, cli="spurline -C '/my shop'")
    assert written_command(elsewhere, "answer", ["a"], "5") == "spurline -C '/my shop' runs answer r1 -t a 5"
    assert written_command(RUN, "note", ["a"], "-5 it is") == "spurline runs note r1 -t a -- '-5 it is'"


@pytest.mark.parametrize(
    ("verb", "states"),
    [
        ("note", {"queued", "generating", "paused", "submitting"}),
        ("answer", {"needs_human"}),
        ("carry on", {"needs_human", "failed", "unproven", "error", "cancelled"}),
    ],
)
def test_whom_it_concerns(verb: Verb, states: set[str]) -> None:
    every = ("queued", "generating", "paused", "submitting", "needs_human", "failed", "unproven", "error")
    agents = [Agent(state, state=state) for state in (*every, "cancelled", "verified")]
    assert set(concerned(verb, agents)) == states
