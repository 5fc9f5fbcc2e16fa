"""The pages of an agent on a real run of the shop: services, router and the answers that stand there are real."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from harness.cli.demo import make_shop
from harness.project import read_project
from harness.runtime.feed import StoreFeed, opened_feed
from tests.e2e.conftest import SCRIPT, Spurline
from tests.tui.screens import until, until_seen
from tui.agents import AgentList
from tui.app import SpurlineApp

IDENTITY = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, spurline: Spurline) -> Path:
    """The shop after a run in which each agent had one iteration."""
    root = make_shop(tmp_path_factory.mktemp("shop") / "shop")
    settings = root / "spurline.yaml"
    settings.write_text(settings.read_text().replace("max_iterations: 4", "max_iterations: 1"))
    subprocess.run(["git", *IDENTITY, "commit", "-qam", "One iteration"], cwd=root, check=True)
    path = os.pathsep.join([str(SCRIPT.parent), os.environ["PATH"]])
    tickets = ("-t", "users-v2", "-t", "statement-descriptions", "-t", "order-cancel")
    done = spurline("run", *tickets, cwd=root, env={"PATH": path})
    assert done.code == 1, done.err
    return root


@asynccontextmanager
async def opened(shop: Path, ticket: str, page: str) -> AsyncIterator[tuple[SpurlineApp, Pilot[Any], StoreFeed]]:
    """The screen on a page of the ticket's agent."""
    async with opened_feed(read_project(shop), "last") as feed:
        app = SpurlineApp(feed)
        async with app.run_test(size=(110, 60)) as pilot:
            await until_seen(pilot, "3/3 ended")
            rows = app.screen.query_one(AgentList)
            await until(pilot, lambda: any(agent.ticket == ticket for agent in rows.shown))
            rows.point(ticket)
            await pilot.press("enter", page)
            yield app, pilot, feed


async def test_the_graph_shows_where_the_seed_case_fails_and_its_real_400(shop: Path) -> None:
    async with opened(shop, "users-v2", "5") as (_, pilot, _):
        text = await until_seen(pilot, "│ payments │ baseline  ✗ failed here", "║ users ║ fork g1")
        for service in ("gateway", "orders", "pricing", "inventory", "loyalty"):
            assert f"│ {service} │" in text
        assert "POST /charges 400" in text
        await pilot.press("enter")
        text = " ".join((await until_seen(pilot, "what the check itself asked", "payments, baseline")).split())
        assert '"detail": "customer.currency must be one of EUR,' in text
        assert '"currency": null' in text
        # Beside it what payments answered to the untouched users; and of the check itself, both whole answers.
        assert '"status": "captured"' in text
        assert '"charged": true' in text
        assert "the payment was not accepted" in text


async def test_where_the_key_was_lost_is_marked(shop: Path) -> None:
    async with opened(shop, "statement-descriptions", "5") as (_, pilot, _):
        text = await until_seen(pilot, "? the key was lost here", "legacy")
        assert [line.split()[:3] for line in text.splitlines() if "╌╌?" in line and "payments" in line]


async def test_the_record_holds_and_its_command_says_the_same(shop: Path, spurline: Spurline) -> None:
    async with opened(shop, "order-cancel", "6") as (_, pilot, feed):
        await until_seen(pilot, "✓ it holds", "acceptance", "orders")
        record = (await feed.detail("order-cancel", "record")).record
    assert record is not None
    assert (record.sound, record.other) == (True, "")
    assert dict(record.says)["conclusion"] == "verified"
    assert spurline(*shlex.split(record.command)[1:], cwd=shop).code == 0
    path = Path(record.path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"payload", b"Payload", 1))
    try:
        async with opened(shop, "order-cancel", "6") as (_, pilot, _):
            await until_seen(pilot, "✗ it does not hold")
        assert spurline(*shlex.split(record.command)[1:], cwd=shop).code == 1
        # One that holds, and speaks of another ticket.
        other = path.parent.with_name("users-v2")
        other.mkdir()
        (other / path.name).write_bytes(whole)
        async with opened(shop, "users-v2", "6") as (_, pilot, _):
            await until_seen(pilot, "✓ it holds", "! it speaks of")
    finally:
        path.write_bytes(whole)


async def test_no_key_and_no_address_is_on_record(shop: Path) -> None:
    async with opened_feed(read_project(shop), "last") as feed:
        for ticket in ("users-v2", "statement-descriptions", "order-cancel"):
            verdict = (await feed.detail(ticket, "hops")).verdict
            assert verdict is not None
            said = repr([(check.seen, check.baseline_seen) for check in verdict.checks])
            assert "127.0.0.1" not in said
            assert "5b17" not in said
            assert "spurline-key" not in said
