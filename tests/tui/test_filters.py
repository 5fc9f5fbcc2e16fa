"""Filters by name, chosen, kept and dropped by keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input, OptionList

from tasks.errors import ConfigError
from tests.tui.memory_feed import MemoryFeed, fleet_feed
from tests.tui.screens import driven, seen, shown, told, until, until_seen


@pytest.fixture(autouse=True)
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    return tmp_path / "spurline" / "filters.yaml"


def changeable(feed: MemoryFeed) -> MemoryFeed:
    feed.changeable = {"failed-00": ("payments",), "queued-00": ("payments", "users")}
    return feed


async def test_a_filter_that_is_always_there() -> None:
    async with driven(fleet_feed()) as (app, pilot):
        await pilot.press("f")
        await until_seen(pilot, "needs attention", "is:attention", "stalled")
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: shown(app) == ["failed-00"])
        await until_seen(pilot, "filter: state:failed")
        await pilot.press("escape")
        await until(pilot, lambda: len(shown(app)) == 12)


async def test_by_service() -> None:
    async with driven(changeable(fleet_feed())) as (app, pilot):
        await pilot.press("f")
        await until_seen(pilot, "may change payments", "may change users")
        await pilot.press("end", "enter")
        await until(pilot, lambda: shown(app) == ["queued-00"])
        await pilot.press("escape", "slash", *"service:pay")
        await until(pilot, lambda: shown(app) == ["failed-00", "queued-00"])


async def test_one_is_kept_chosen_and_dropped(file: Path) -> None:
    async with driven(fleet_feed()) as (app, pilot):
        await pilot.press("slash", *"state:v", "enter", "f")
        await until_seen(pilot, "a name under which to keep: state:v")
        await pilot.press("tab", *"vees", "enter")
        await until_seen(pilot, "kept in")
        assert file.read_text() == "vees: state:v\n"
        await pilot.press("escape")
        await until(pilot, lambda: len(shown(app)) == 12)
        await pilot.press("f")
        await until(pilot, lambda: bool(app.screen.query(OptionList)) and "vees" in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: len(shown(app)) == 3)
        await pilot.press("f")
        await until(pilot, lambda: bool(app.screen.query(OptionList)))
        await pilot.press("D")
        await until(pilot, lambda: file.read_text() == "{}\n")
        await pilot.press("D", "escape")
        await until(pilot, lambda: not app.screen.query(OptionList))
        assert app.screen.query_one("#filter", Input).value == "state:v"


async def test_a_bad_file_is_said_and_the_screen_goes_on(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("- no names\n")
    async with driven(fleet_feed()) as (app, pilot):
        await pilot.press("f")
        await until(pilot, lambda: "no mapping of names to filters" in told(app) and "needs attention" in seen(app))
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: shown(app) == ["failed-00"])
    assert file.read_text() == "- no names\n"


async def test_a_folder_that_cannot_be_written_is_said(file: Path) -> None:
    file.parent.write_text("")
    async with driven(fleet_feed()) as (app, pilot):
        await pilot.press("slash", *"state:v", "enter", "f")
        await until_seen(pilot, "a name under which to keep")
        await pilot.press("tab", *"x", "enter")
        await until(pilot, lambda: "cannot be written" in told(app))
        await pilot.press("escape")
        await until(pilot, lambda: len(shown(app)) == 3)


async def test_tickets_that_cannot_be_read_are_said() -> None:
    feed = fleet_feed()
    async with driven(feed) as (_, pilot):
        feed.failure = ConfigError("no ticket file matches", path=Path("spurline.yaml"))
        await pilot.press("f")
        await until_seen(pilot, "no ticket file matches", "needs attention")
