"""harness.cli.starting and harness.runtime.starting: every change is told once, and what is drawn last stays."""

from __future__ import annotations

import asyncio
import io
from typing import cast

import pytest
from rich.console import Console

from harness.cli.output import Output
from harness.cli.starting import Starting, view
from harness.runtime.starting import StartLog, brought_up
from sandbox.driver import Baseline, Driver, Running, Start
from sandbox.sample import sample_system
from tasks.errors import BaselineError, SandboxError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_log_tells_each_change_once_and_who_is_waited_for() -> None:
    now, lines = 0.0, list[str]()
    log = StartLog(lines.append, clock=lambda: now)
    log([Start("a", "starting", 0.1), Start("b", "building", 0.1), Start("out", "awaited", 0.1)])
    log([Start("a", "starting", 0.2), Start("b", "building", 0.2), Start("out", "ready", None)])
    now = 5.0
    log([Start("a", "ready", 0.5), Start("b", "starting", 0.1), Start("out", "ready", None)])
    now = 9.0
    log([Start("a", "ready", 0.5), Start("b", "starting", 4.1), Start("out", "ready", None)])
    now = 60.0
    log([Start("a", "ready", 0.5), Start("b", "ready", 5.25), Start("out", "ready", None)])
    assert lines == [
        "  b building",
        "  out awaited",
        "  out ready",
        "  a ready after 0.50 s",
        "  b starting",
        "  still starting after 5 s: b",
        "  b ready after 5.25 s",
    ]


def test_the_list_is_text_in_columns() -> None:
    stream = io.StringIO()
    starts = [Start("[red]a", "ready", 0.5), Start("b", "building", 3.21), Start("c\x1b[2J", "ready", None)]
    Console(file=stream, width=40, color_system=None).print(view(starts))
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert lines == ["  [red]a  ready after 0.50 s", "  b       building 3.2 s", "  c       ready"]


@pytest.mark.parametrize("told", [True, False])
def test_on_a_terminal_what_was_last_known_stays(monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stdout, stderr = io.StringIO(), Terminal()
    with Starting(Output(stdout=stdout, stderr=stderr)) as starting:
        if told:
            starting.feed([Start("a", "ready", 0.5)])
    assert ("a  ready after 0.50 s" in stderr.getvalue()) == told
    assert stdout.getvalue() == ""


def test_with_json_a_terminal_gets_the_log() -> None:
    stderr = Terminal()
    with Starting(Output(json=True, stderr=stderr)) as starting:
        starting.feed([Start("a", "ready", 0.5)])
    assert stderr.getvalue().strip() == "a ready after 0.50 s"


class Slow:
    """A driver whose `up` ends once it was asked how far it is, three times."""

    def __init__(self, end: Exception | None = None) -> None:
        self.asked, self.enough, self.end = 0, asyncio.Event(), end

    async def up(self, *_: object, lease_s: float | None) -> Baseline:
        await self.enough.wait()
        if self.end is not None:
            raise self.end
        return Baseline("c", {"a": Running("a", "h:1", True, 1, 0.5)}, {}, lease_s, True)

    async def starts(self) -> tuple[Start, ...]:
        self.asked += 1
        if self.asked == 3:
            self.enough.set()
        if self.asked == 2:
            raise SandboxError("no answer this time")
        return (Start("a", "starting", self.asked),) if self.asked > 2 else ()


async def test_who_waits_is_told_until_all_are_ready() -> None:
    told = list[tuple[Start, ...]]()
    driver = cast(Driver, Slow())
    baseline = await brought_up(driver, sample_system(), "c", lambda starts: told.append(tuple(starts)), lease_s=9.0)
    assert baseline.lease_ends == 9.0
    assert told == [(Start("a", "starting", 3),), (Start("a", "ready", 0.5),)]


async def test_a_baseline_that_fails_is_not_said_to_be_ready() -> None:
    told = list[tuple[Start, ...]]()
    driver = cast(Driver, Slow(BaselineError("'a' broke")))
    with pytest.raises(BaselineError):
        await brought_up(driver, sample_system(), "c", lambda starts: told.append(tuple(starts)))
    assert told == [(Start("a", "starting", 3),)]
