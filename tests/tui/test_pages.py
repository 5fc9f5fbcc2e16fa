"""The pages about one agent that are more than text: hops and their exchanges, the record, logs, the conversation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from rich.text import Text
from textual.pilot import Pilot

from sandbox.seen import Seen, SeenExchange, SeenHop
from tests.tui.memory_feed import BEGAN, FAILING, REFUSED, MemoryFeed, detailed, fleet_feed
from tests.tui.screens import seen, until, until_seen
from tui.agent_screen import AgentScreen
from tui.agents import AgentList
from tui.app import SpurlineApp
from tui.exchange_screen import ExchangeScreen
from tui.feed import Agent, Check, Detail, Record, Said, Verdict
from tui.reading import Reading

TICKET = "failed-00"


@asynccontextmanager
async def opened(
    page: str, detail: Detail, *, size: tuple[int, int] = (100, 40), feed: MemoryFeed | None = None
) -> AsyncIterator[tuple[SpurlineApp, Pilot[Any], MemoryFeed]]:
    """The screen on a page of the agent of `detail`."""
    feed = feed or fleet_feed()
    feed.details = {detail.ticket: detail}
    app = SpurlineApp(feed)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until_seen(pilot, f"{feed.run.project}  ")
        rows = app.screen.query_one(AgentList)
        await until(pilot, lambda: any(agent.ticket == detail.ticket for agent in rows.shown))
        rows.point(detail.ticket)
        await pilot.press("enter", page)
        yield app, pilot, feed


def judged(*checks: Check, **more: Any) -> Detail:
    verdict = Verdict("abc", "failed", "a check fails", "c" * 40, checks, **more)
    return Detail(TICKET, (), (), verdict=verdict)


async def test_the_graph_marks_where_it_failed_and_where_the_key_was_lost() -> None:
    async with opened("5", detailed(TICKET)) as (_, pilot, _):
        text = await until_seen(pilot, "│ payments │ baseline  ✗ failed here", "║ users ║ fork g2")
        assert "└╌╌? payments (elsewhere)  ? the key was lost here" in text
        # Its hop is under the cursor, and what it answered is a key away.
        assert "✗ orders → payments  POST /charges 400  baseline" in text
        await pilot.press("enter")
        text = await until_seen(pilot, "in check 'integration'", "[bold]GBP[/bold]")
        assert '"currency": null' in text
        assert "400 ≠ 201" in " ".join(text.split())
        assert '"currency": "EUR"' in text
        await pilot.press("escape")
        await until_seen(pilot, "✗ failed here", "5 hops")


async def test_a_page_after_the_graph_has_all_of_the_width() -> None:
    async with opened("5", detailed(TICKET)) as (_, pilot, _):
        for page, line in (
            ("6", "$ spurline verify /shop/.spurline/runs/r/t/record.json"),
            ("4", "56 hops prove that"),
        ):
            await until_seen(pilot, "✗ failed here")
            await pilot.press(page)
            await until_seen(pilot, line)
            await pilot.press("5")


async def test_the_cursor_points_at_an_arrow_and_each_hop_opens() -> None:
    async with opened("5", detailed(TICKET)) as (app, pilot, _):
        await until_seen(pilot, "✗ failed here")
        await pilot.press("home", "enter")
        await until_seen(pilot, "client → gateway  POST /orders 402", "(nothing of the baseline is on record)")
        await pilot.press("n")
        await until_seen(pilot, "gateway → orders  POST /orders 402")
        await pilot.press("N", "N")
        await until(pilot, lambda: "orders 402" not in seen(app) and isinstance(app.screen, ExchangeScreen))


async def test_both_answers_to_a_check_stand_side_by_side_and_what_differs_is_marked() -> None:
    check = Check(
        "an order is charged",
        False,
        "pass",
        "fail",
        asked='POST /orders\n\n{"user": 7}',
        seen=Seen(FAILING, (REFUSED,), '402\ncontent-type: application/json\n\n{"error": "no", "id": 4}'),
        baseline_seen=Seen((), (), '201\ncontent-type: application/json\n\n{"status": "paid", "id": 4, "a": 1}'),
    )
    async with opened("5", judged(check)) as (_, pilot, _):
        await until_seen(pilot, "✗ failed here")
        await pilot.press("enter")
        text = await until_seen(pilot, "what the check itself asked", '{"user": 7}'.replace("{", "").replace("}", ""))
        rows = [" ".join(line.split()) for line in text.splitlines()]
        assert "402 ≠ 201" in rows
        assert '"error": "no", ≠ "status": "paid",' in rows
        assert "content-type: application/json content-type: application/json" in rows


async def test_below_each_other_where_it_is_narrow() -> None:
    known = SeenExchange("orders", "payments", "POST", "/charges", 409, "", "\nstock is gone")
    check = Check("suite", True, "fail", "fail", seen=Seen(FAILING, (REFUSED,)), baseline_seen=Seen((), (known,)))
    async with opened("5", judged(check), size=(50, 44)) as (_, pilot, _):
        await until_seen(pilot, "✗")
        await pilot.press("enter")
        text = await until_seen(pilot, "on the baseline", "stock is gone")
        left, right = text.index("≠ 400"), text.index("≠ 409")
        assert left < right
        assert text.index("GBP") < right


@pytest.mark.parametrize(
    ("detail", "said"),
    [(Detail(TICKET, (), ()), "there is no verdict yet"), (judged(), "no hops are on record of the last verdict")],
)
async def test_where_nothing_is_known_that_is_said(detail: Detail, said: str) -> None:
    async with opened("5", detail) as (_, pilot, _):
        await until_seen(pilot, said)
        await pilot.press("enter", "j", "k")
        await until_seen(pilot, said)


async def test_a_new_verdict_is_drawn_anew_and_the_same_one_leaves_the_cursor() -> None:
    feed = fleet_feed(state="running")
    detail = replace(detailed(TICKET), ticket="generating-00")
    async with opened("5", detail, feed=feed) as (app, pilot, _):
        await until_seen(pilot, "✗ failed here")
        await pilot.press("home")
        screen = app.screen
        assert isinstance(screen, AgentScreen)
        read = screen._read_at
        await until(pilot, lambda: screen._read_at > read)
        await pilot.press("enter")
        await until_seen(pilot, "client → gateway  POST /orders 402")
        await pilot.press("escape")
        hops = (SeenHop("client", "mended", "GET", "/", 200, "fork", 3),)
        feed.details = {
            "generating-00": replace(detail, verdict=judged(Check("a", True, "fail", "pass", seen=Seen(hops))).verdict)
        }
        await until_seen(pilot, "║ mended ║ fork g3")
        await until(pilot, lambda: "payments" not in seen(app))


async def test_nothing_that_a_service_answers_is_obeyed() -> None:
    evil = "\x1b[2J\x1b]0;owned\x07[bold red]x[/] [@click=app.quit]y[/] \u202e דג 漢字" + "z" * 1_000_000
    hop = SeenHop(evil, evil, evil, evil, 500, "baseline", origin=True)
    exchange = SeenExchange(evil, evil, evil, evil, 500, evil, evil)
    check = Check(evil, True, "fail", "fail", evil, evil, asked=evil, seen=Seen((hop,), (exchange,), evil))
    feed = fleet_feed()
    feed.agents = (Agent(TICKET, state="failed", heard=time.time()),)
    async with opened("5", judged(check), feed=feed) as (app, pilot, _):
        await until_seen(pilot, "━━✗ [bold red]x[/]")
        await pilot.press("enter")
        await until_seen(pilot, "in check", "[bold red]x[/]")
        assert "\x1b" not in seen(app)
        assert "\u202e" not in seen(app)
        assert "owned" not in seen(app)


async def test_the_record_says_whether_it_holds_and_how_that_is_checked() -> None:
    async with opened("6", detailed(TICKET)) as (_, pilot, _):
        text = await until_seen(pilot, "✓ it holds", "$ spurline verify /shop/.spurline/runs/r/t/record.json")
        assert "[bold]d0d0[/bold]" in text
        rows = [line.split() for line in text.splitlines()]
        assert ["users", "g2", "56"] in rows
        assert ["an", "order", "is", "charged", "fail", "pass,", "pass", "5d327aaad9b27a6f"] in rows


async def test_of_a_record_that_does_not_hold_nothing_is_said() -> None:
    record = Record("/r.json", "spurline verify /r.json", False, "it was altered: the signature does not hold")
    async with opened("6", Detail(TICKET, (), (), record=record)) as (_, pilot, _):
        text = await until_seen(pilot, "✗ it does not hold: it was altered: the signature does not hold")
        assert "commit" not in text.replace("nothing was committed", "")


async def test_a_record_of_another_commit_is_told_apart() -> None:
    record = Record("/r.json", "spurline verify /r.json", True, "verified", "it speaks of r t c, not of r t d")
    async with opened("6", Detail(TICKET, (), (), record=record)) as (_, pilot, _):
        await until_seen(pilot, "✓ it holds", "! it speaks of r t c, not of r t d")


async def test_where_there_is_no_record_that_is_said() -> None:
    async with opened("6", Detail(TICKET, (), ())) as (_, pilot, _):
        await until_seen(pilot, "there is no record here")


async def test_checks_are_told_apart_at_a_glance_and_what_failed_is_open_below() -> None:
    check = Check("an order", True, "fail", "pass", "got 404", "", flaky=True)
    broken = Check("suite", False, "pass", "unjudged", "", "no answer", asked="pytest -q")
    async with opened("4", judged(check, broken)) as (_, pilot, _):
        text = await until_seen(pilot, "got 404", "no answer", "pytest -q")
        rows = [" ".join(line.split()) for line in text.splitlines()]
        assert "✗ fail ✓ pass ~ flaky an order the ticket's" in rows
        assert "✓ pass ? unjudged suite the repository's" in rows


async def test_logs_of_a_sandbox_that_lives_are_followed() -> None:
    feed = fleet_feed(state="running")
    detail = replace(detailed(TICKET), ticket="generating-00")
    lines = tuple((BEGAN + n, "users", f"line {n}") for n in range(100))
    async with opened("7", replace(detail, logs=lines), feed=feed) as (app, pilot, _):
        await until_seen(pilot, "users  line 99")
        feed.details = {detail.ticket: replace(detail, logs=(*lines[1:], (BEGAN + 200, "users", "line 100")))}
        await until_seen(pilot, "users  line 100")
        # Who reads in the middle stays there, until he asks for the end.
        await pilot.press("home")
        text = await until_seen(pilot, "sandbox  failed-00-1a2b3c", "preview  http://127.0.0.1:4711")
        assert "users g2, orders g1 (dead)" in text
        feed.details = {detail.ticket: replace(detail, logs=(*lines[2:], (BEGAN + 201, "users", "line 101")))}
        screen = app.screen
        assert isinstance(screen, AgentScreen)
        await until(pilot, lambda: "line 101" in str(screen._details["logs"].logs))
        assert "line 101" not in seen(app)
        await pilot.press("f")
        await until_seen(pilot, "users  line 101")


async def test_logs_of_a_sandbox_that_is_gone_are_what_the_evidence_kept() -> None:
    evidence = (
        "Check 'a' does not pass.\n  asked:    x\n\nLog of your fork of users:\n    Traceback\n    KeyError: 7\n\nend"
    )
    detail = judged(evidence=evidence)
    async with opened("7", detail) as (_, pilot, _):
        text = await until_seen(pilot, "its sandbox does not live", "Log of your fork of users:", "KeyError: 7")
        assert "asked" not in text


def conversation(count: int, *, lines: int = 40) -> Detail:
    said = [Said(BEGAN, "ticket", "Mend it")]
    for n in range(count):
        said.append(Said(BEGAN + n, "tool", f"command: look {n}", "bash"))
        said.append(Said(BEGAN + n, "result", "\n".join(f"line {line} of {n}" for line in range(lines))))
    return Detail("generating-00", (), (), tuple(said))


async def test_long_results_are_folded_until_they_are_asked_for() -> None:
    async with opened("2", conversation(1)) as (app, pilot, _):
        text = await until_seen(pilot, "line 7 of 0", "… 32 more lines (z)")
        assert "line 8 of 0" not in text
        await pilot.press("z", "end")
        await until_seen(pilot, "line 39 of 0")
        await pilot.press("z")
        await until(pilot, lambda: "line 39 of 0" not in seen(app))


async def test_a_conversation_is_searched_as_it_is_typed() -> None:
    async with opened("2", conversation(20)) as (app, pilot, _):
        await until_seen(pilot, "line 7 of 19")
        await pilot.press("slash", *"LOOK 1")
        # 1, and 10 to 19.
        await until_seen(pilot, "1 of 11", "command: look 1")
        await pilot.press("enter", "down")
        await until_seen(pilot, "3 of 11", "command: look 11")
        await pilot.press("up", "up", "up")
        await until_seen(pilot, "11 of 11", "command: look 19")
        await pilot.press(*"x y")
        await until_seen(pilot, "0 of 0")
        await pilot.press("escape")
        await until(pilot, lambda: "0 of 0" not in seen(app))
        assert isinstance(app.screen, AgentScreen)
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, AgentScreen))


async def test_a_conversation_goes_on_at_its_end_only() -> None:
    feed = fleet_feed(state="running")
    detail = conversation(150)
    async with opened("2", replace(detail, said=detail.said[-300:]), feed=feed) as (app, pilot, _):
        await until_seen(pilot, "line 7 of 149")
        log = app.screen.query_one(Reading).log_
        before = len(log.lines)
        more = (*detail.said, Said(BEGAN + 500, "agent", "now I see"))
        feed.details = {detail.ticket: replace(detail, said=more[-300:])}
        await until_seen(pilot, "now I see")
        # What stood there was not rendered again.
        assert len(log.lines) == before + 3


async def test_a_long_page_lets_keys_through_while_it_is_written() -> None:
    async with opened("1", Detail(TICKET, (), ())) as (app, pilot, _):
        await until_seen(pilot, "it has not begun")
        reading = app.screen.query_one(Reading)
        reading.show([Text("\n".join([f"word {n}"] * 20)) for n in range(1_000)], top=True)
        assert 0 < reading._written < 1_000
        await pilot.press("end")
        await until(pilot, lambda: reading._written == 1_000)
        await pilot.press("end")
        await until_seen(pilot, "word 999")
        # What is left half written is given up for another page.
        reading.show([Text("\n".join(["other"] * 20)) for n in range(1_000)], top=True)
        reading.show([Text("done")], top=True)
        await until(pilot, lambda: reading.log_.lines[-1].text.strip() == "done" and len(reading.log_.lines) == 1)
