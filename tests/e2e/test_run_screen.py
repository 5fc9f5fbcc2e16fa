"""`spurline run` offers the screen on a terminal, and `run --tui` shows it there; nothing of it elsewhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import Spurline
from tests.e2e.sample import sample_project
from tests.e2e.tmux import PATIENCE_S, Terminal, opened_terminal

MakeRepo = Callable[[Mapping[str, str]], Path]

pytestmark = pytest.mark.timeout(300)

TICKET = """\
---
id: loud
title: a says LOUD
services: [a]
checks:
  http: [{name: the word, request: {path: /}, expect: {status: 200, json: {word: LOUD}}}]
---
Please.
"""
SAID = """\
ticket: loud
turns:
  - {say: I think., use: [{tool: bash, input: {command: sleep %s}}]}
  - {say: I write it., use: [{tool: write, input: {file_path: a/word.txt, content: LOUD}}]}
  - {say: It is right.}
"""


def project(seconds: int) -> dict[str, str]:
    """A project whose one agent thinks for so long."""
    settings = "agent: {kind: rehearsal, max_iterations: 1}\n"
    return {
        **sample_project({"a": None}, settings),
        "tickets/loud.md": TICKET,
        "recordings/loud.yaml": SAID % seconds,
    }


@pytest.fixture
def terminal(request: pytest.FixtureRequest, make_repo: MakeRepo, script: Path) -> Iterator[Terminal]:
    with opened_terminal(make_repo(project(request.param)), script) as found:
        yield found


def screen_of(terminal: Terminal) -> psutil.Process:
    """The process of the screen beside the run."""
    shell = psutil.Process(int(terminal.tmux("display-message", "-p", "-t", "screen", "#{pane_pid}")))
    alive = (one for one in shell.children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE)
    (found,) = (one for one in alive if "tui" in one.cmdline())
    return found


@pytest.mark.parametrize("terminal", [600], indirect=True)
def test_the_screen_goes_and_the_run_goes_on(terminal: Terminal) -> None:
    terminal.keys("spurline run --tui; echo code=$?", "Enter")
    terminal.until("0/1 ended", "g loud", "? Help")
    # Stopped alone, it would leave the terminal to nobody.
    terminal.keys("C-z", "Enter")
    terminal.until("1 timeline", "g loud")
    terminal.keys("C-c")
    terminal.until("the run goes on; `spurline tui ", "0/1 ended", without="? Help")
    terminal.keys("C-c")
    terminal.until("code=130")


@pytest.mark.chaos
@pytest.mark.parametrize("terminal", [600], indirect=True)
def test_a_screen_that_is_killed_leaves_run_and_terminal_as_they_were(terminal: Terminal) -> None:
    terminal.keys("spurline run --tui; echo code=$?", "Enter")
    terminal.until("0/1 ended", "g loud", "? Help")
    os.kill(screen_of(terminal).pid, signal.SIGKILL)
    terminal.until("the run goes on", "0/1 ended", without="? Help")
    terminal.keys("C-c")
    terminal.until("code=130")
    terminal.keys("echo typed", "Enter")
    terminal.until("\ntyped\n")


def run_of(terminal: Terminal) -> psutil.Process:
    """The process of the run."""
    (found,) = (one for one in screen_of(terminal).parents() if "run" in one.cmdline())
    return found


@pytest.mark.parametrize("terminal", [5], indirect=True)
def test_who_reads_as_the_run_ends_goes_on_reading(terminal: Terminal) -> None:
    terminal.keys("spurline run --tui; echo code=$?", "Enter")
    terminal.until("0/1 ended", "? Help")
    terminal.keys("Enter")
    terminal.until("g loud", "1 timeline", "generating")
    text = terminal.until("the run has ended", "finished: 1 verified", "✓ loud", "✓ verified", "submitting")
    assert "code=" not in text
    terminal.keys("Escape")
    terminal.until("the run has ended; q leaves the screen · finished: 1 verified", "? Help")
    terminal.keys("q")
    assert "the run goes on" not in terminal.until("1 verified ·", "code=0", without="? Help")


@pytest.mark.chaos
@pytest.mark.parametrize("terminal", [1], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_after_the_end_ends_the_screen_and_changes_nothing(terminal: Terminal, number: int) -> None:
    terminal.keys("spurline run --tui; echo code=$?", "Enter")
    terminal.until("the run has ended; q leaves")
    run_of(terminal).send_signal(number)
    assert "the run goes on" not in terminal.until("1 verified ·", "code=0", without="? Help")


@pytest.mark.parametrize("terminal", [1], indirect=True)
def test_a_terminal_that_goes_away_after_the_end_takes_nothing_along(
    terminal: Terminal, spurline: Spurline, tmp_path: Path
) -> None:
    folder = Path(terminal.tmux("display-message", "-p", "-t", "screen", "#{pane_current_path}").strip())
    terminal.keys("spurline run --tui", "Enter")
    terminal.until("the run has ended; q leaves")
    left = [run_of(terminal), screen_of(terminal)]
    terminal.tmux("new-session", "-d", "-s", "other", "sh")
    terminal.tmux("kill-session", "-t", "screen")
    _, alive = psutil.wait_procs(left, timeout=PATIENCE_S)
    assert alive == []
    shown = spurline("runs", "show", cwd=folder)
    assert (shown.code, "verified" in shown.out) == (0, True)


@pytest.mark.parametrize("terminal", [600], indirect=True)
def test_a_run_that_is_stopped_ends_the_screen(terminal: Terminal) -> None:
    terminal.keys("spurline run --tui; echo code=$?", "Enter")
    terminal.until("0/1 ended", "g loud", "? Help")
    run_of(terminal).send_signal(signal.SIGINT)
    terminal.until("code=130", without="? Help")


@pytest.mark.parametrize("terminal", [1], indirect=True)
def test_it_is_offered(terminal: Terminal) -> None:
    terminal.keys("spurline run; echo code=$?", "Enter")
    terminal.until("in another terminal shows it on a screen", "1 verified", "code=0")


def test_without_a_terminal_nothing_is_said_of_it(spurline: Spurline, make_repo: MakeRepo) -> None:
    ran = spurline("run", "--tui", cwd=make_repo(project(1)))
    assert ran.code == 0
    assert "tui" not in ran.err
