"""Pictures of the screen at three sizes: as text, in which a change is read, and as SVG in both themes, for colours.

`UPDATE_PICTURES=1 python -m pytest tests/tui/test_pictures.py` takes them anew; look at them before you keep them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from textual.color import Color

from tests.tui.drawing import drawing
from tests.tui.memory_feed import detailed, fleet_feed, happened
from tests.tui.screens import seen, until, until_seen
from tui.agents import AgentList
from tui.app import SpurlineApp
from tui.signs import STYLES

PICTURES = Path(__file__).parent / "pictures"
SIZES = ((80, 24), (132, 40), (40, 12))
THEMES = ("dark", "light")
_READABLE = 3.0
"""The contrast that WCAG asks of large text and of signs."""


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["fleet", "groups", "agent", "confirm", "hops", "exchange"])
async def test_it_looks_as_it_did(name: str, size: tuple[int, int]) -> None:
    feed = fleet_feed(3)
    events = [
        happened("agent.state", "failed-00", 1, state="preparing"),
        happened("agent.state", "failed-00", 4, state="generating", iterations=1),
        happened("agent.state", "failed-00", 30, state="validating"),
        happened("agent.state", "failed-00", 64, state="failed", reason="out of budget"),
    ]
    feed.details = {"failed-00": detailed("failed-00", events)}
    app = SpurlineApp(feed)
    async with app.run_test(size=size) as pilot:
        await until_seen(pilot, "needs-human-00")
        rows = app.screen.query_one(AgentList)
        if name == "agent":
            rows.point("failed-00")
            await pilot.press("enter", "4")
            await until_seen(pilot, "c0ffee")
        elif name in ("hops", "exchange"):
            rows.point("failed-00")
            await pilot.press("enter", "5")
            await until_seen(pilot, "✗ orders → payments")
            if name == "exchange":
                await pilot.press("enter")
                await until_seen(pilot, "in check 'integration'")
        elif name == "groups":
            await pilot.press("v", "v", "v", "z")
            await until_seen(pilot, "+ which currency is meant? 3")
        elif name == "confirm":
            rows.point("failed-00")
            await pilot.press("space", "space", "R")
            await until_seen(pilot, "Yes (y)")
        for theme in THEMES:
            app.theme = f"textual-{theme}"
            words = PICTURES / f"{name}-{size[0]}x{size[1]}.txt"
            colours = PICTURES / f"{name}-{size[0]}x{size[1]}-{theme}.svg"
            if os.environ.get("UPDATE_PICTURES"):
                await pilot.pause(1)
                words.write_text(seen(app) + "\n")
                colours.write_text(drawing(app))
            expected = words.read_text(), colours.read_text()
            await until(pilot, lambda expected=expected: (seen(app) + "\n", drawing(app)) == expected)  # type: ignore[misc]  # mypy cannot infer a lambda with a default


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
async def test_every_look_can_be_read(theme: str) -> None:
    app = SpurlineApp(fleet_feed())
    async with app.run_test() as pilot:
        app.theme = theme
        await until_seen(pilot, "needs-human-00")
        await pilot.pause()
        rows = app.screen.query_one(AgentList)
        for look in (*(f"sign--{name}" for name in STYLES), "row--muted", "row--head"):
            assert contrast(rows.get_component_styles(look).color, rows.background_colors[1]) >= _READABLE, look
        cursor = rows.get_component_styles("row--cursor")
        assert contrast(cursor.color, cursor.background) >= _READABLE


async def test_without_colour_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with_colour = SpurlineApp(fleet_feed())
    async with with_colour.run_test(size=(100, 30)) as pilot:
        await until_seen(pilot, "needs-human-00", "? Help")
        await pilot.pause(1)
        expected = seen(with_colour)
    monkeypatch.setenv("NO_COLOR", "1")
    without = SpurlineApp(fleet_feed())
    async with without.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: seen(without) == expected)


def contrast(colour: Color, ground: Color) -> float:
    """The ratio that WCAG defines."""
    seen_as = ground.blend(colour, colour.a, alpha=1.0)
    lighter, darker = sorted((luminance(seen_as), luminance(ground)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: Color) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
