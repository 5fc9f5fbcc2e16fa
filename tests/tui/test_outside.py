"""Ways out of the screen: what is opened, and what is said where nothing can be."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tasks.errors import SandboxError
from tests.tui.memory_feed import MemoryFeed, fleet_feed
from tests.tui.screens import until, until_seen
from tui import outside
from tui.app import SpurlineApp
from tui.clipboard import Copy
from tui.feed import Links

TICKET = "needs-human-00"
LINKS = Links(
    TICKET,
    preview="http://127.0.0.1:4711",
    branch="spurline/r/t",
    commit="c0ffee",
    show="spurline runs show r -t t",
    restore="git -C /shop worktree add ../shop-t spurline/r/t",
)


@asynccontextmanager
async def driven(links: Links) -> AsyncIterator[tuple[SpurlineApp, Pilot[Any], MemoryFeed]]:
    feed = fleet_feed()
    feed.linked = {TICKET: links}
    app = SpurlineApp(feed)
    async with app.run_test(size=(110, 30), notifications=True) as pilot:
        await until_seen(pilot, TICKET)
        yield app, pilot, feed


def told(app: SpurlineApp, *texts: str) -> bool:
    """Whether all texts were said in notifications, which break long lines."""
    said = "\n".join(one.message for one in app._notifications)
    return all(text in said for text in texts)


@pytest.mark.parametrize("first", [(), ("enter",)], ids=["list", "agent"])
async def test_the_preview_is_opened_in_the_browser_of_the_user(
    first: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, asked = tmp_path / "browser", tmp_path / "asked"
    browser.write_text(f'#!/bin/sh\necho "$1" >{asked}; echo noise; echo noise >&2\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    monkeypatch.setattr("webbrowser._tryorder", None)
    async with driven(LINKS) as (_, pilot, _):
        await pilot.press(*first, "o")
        await until_seen(pilot, "opened in a browser", "http://127.0.0.1:4711")
        await until(pilot, lambda: asked.exists() and asked.read_text() == "http://127.0.0.1:4711\n")


async def test_where_there_is_no_browser_the_link_is_copied_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "w3m")
    monkeypatch.setattr("webbrowser._tryorder", None)
    async with driven(LINKS) as (app, pilot, _):
        await pilot.press("o")
        await until_seen(pilot, "there is no browser here", "http://127.0.0.1:4711")
        assert app.clipboard == "http://127.0.0.1:4711"


@pytest.mark.parametrize("url", ["", "file:///etc/passwd"])
async def test_a_sandbox_that_is_gone_has_no_preview(url: str) -> None:
    async with driven(replace(LINKS, preview=url)) as (_, pilot, _):
        await pilot.press("o")
        await until_seen(pilot, "no preview", "does not live", "keep_sandbox")


@pytest.mark.parametrize("key", ["S", "e"])
async def test_a_worktree_that_is_gone_can_be_made_again(key: str) -> None:
    async with driven(LINKS) as (app, pilot, _):
        await pilot.press(key)
        command = "$ git -C /shop worktree add ../shop-t spurline/r/t"
        await until(pilot, lambda: told(app, "is gone, its branch stays", command))


async def test_where_nothing_was_committed_there_is_nothing_to_go_to() -> None:
    async with driven(Links(TICKET)) as (_, pilot, _):
        await pilot.press("S")
        await until_seen(pilot, "nothing was committed")


async def test_a_shell_where_there_is_no_terminal_is_a_command(tmp_path: Path) -> None:
    async with driven(replace(LINKS, worktree=str(tmp_path))) as (app, pilot, _):
        await pilot.press("S")
        await until(pilot, lambda: told(app, "a shell needs a terminal", f"$ cd {tmp_path}"))
        assert app.clipboard == f"cd {tmp_path}"


async def test_an_editor_has_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "vi 'never ended")
    async with driven(replace(LINKS, worktree=str(tmp_path))) as (app, pilot, _):
        await pilot.press("e")
        await until(pilot, lambda: told(app, "set VISUAL or EDITOR", f"$ cd {tmp_path}"))


async def test_what_is_copied_is_chosen_by_number_or_with_the_cursor() -> None:
    async with driven(LINKS) as (app, pilot, _):
        await pilot.press("y")
        await until_seen(pilot, "1 branch  spurline/r/t", "2 commit  c0ffee", "3 command  spurline runs show r -t t")
        await pilot.press("2")
        await until_seen(pilot, "copied, where the terminal allows it")
        assert app.clipboard == "c0ffee"
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, Copy))
        await pilot.press("j", "j", "enter")
        await until(pilot, lambda: app.clipboard == "spurline runs show r -t t")
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, Copy))
        await pilot.press("9", "escape")
        await until(pilot, lambda: not isinstance(app.screen, Copy))
        assert app.clipboard == "spurline runs show r -t t"


async def test_it_is_copied_by_osc_52(monkeypatch: pytest.MonkeyPatch) -> None:
    async with driven(LINKS) as (app, _, _):
        written: list[str] = []
        assert app._driver is not None
        monkeypatch.setattr(app._driver, "write", written.append)
        outside.copied(app, "branch")
        assert f"\x1b]52;c;{base64.b64encode(b'branch').decode()}\a" in written


async def test_a_keeper_that_does_not_answer_is_said() -> None:
    async with driven(LINKS) as (_, pilot, feed):
        feed.failure = SandboxError("the keeper does not answer", hint="wait")
        await pilot.press("o")
        await until_seen(pilot, "the keeper does not answer", "wait")


def test_the_shell_and_the_editor_are_those_of_the_user() -> None:
    assert outside.shell({"SHELL": "/usr/bin/fish"}) == ["/usr/bin/fish"]
    assert outside.shell({}) == ["/bin/sh"]
    assert outside.editor({"VISUAL": "code -w", "EDITOR": "vi"}, ["./a b.py"]) == ["code", "-w", "./a b.py"]
    assert outside.editor({"EDITOR": "vi"}, []) == ["vi", "."]
    assert outside.editor({"EDITOR": ""}, ["./a"]) is None


def test_ctrl_c_is_for_what_runs_in_the_terminal_and_an_end_comes_afterwards() -> None:
    script = """
import os, signal, sys
from tui.outside import _signals_are_theirs
signal.signal(signal.SIGTERM, lambda *_: (print("ended", flush=True), sys.exit(7)))
with _signals_are_theirs():
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    print("went on", flush=True)
print("never")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.returncode) == ("went on\nended\n", 7)
