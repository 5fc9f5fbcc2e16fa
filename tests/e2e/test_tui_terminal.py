"""`spurline tui` in a real terminal (tmux), on the store of a run that another process works on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.conftest import Spurline
from tests.e2e.tmux import Terminal, opened_terminal
from tests.e2e.worker import RUN, SETTINGS, at_work

MakeRepo = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def root(make_repo: MakeRepo) -> Path:
    return make_repo({"spurline.yaml": SETTINGS})


@pytest.fixture
def worker(root: Path) -> Iterator[subprocess.Popen[str]]:
    with at_work(root) as process:
        yield process


@pytest.fixture
def terminal(root: Path, script: Path) -> Iterator[Terminal]:
    with opened_terminal(root, script) as found:
        yield found


def test_from_start_to_ctrl_c_through_every_size(terminal: Terminal, worker: subprocess.Popen[str]) -> None:
    terminal.keys("spurline tui; echo code=$?", "Enter")
    terminal.until("1/4 ended", "! points", "step ", "which currency is meant?")
    terminal.tmux("resize-window", "-t", "screen", "-x", "20", "-y", "5")
    terminal.until("shop", "! points", without="Filter")
    terminal.tmux("resize-window", "-t", "screen", "-x", "140", "-y", "40")
    terminal.until("verdict", "? Help")
    terminal.keys("p")
    terminal.until("nothing to pause")
    terminal.keys("j", "p")
    terminal.until(f"$ spurline runs pause {RUN} -t users")
    terminal.until("to be paused")
    terminal.keys("C-c")
    terminal.until("code=0")
    assert worker.poll() is None


def test_the_run_is_killed_under_it(terminal: Terminal, worker: subprocess.Popen[str]) -> None:
    terminal.keys("spurline tui; echo code=$?", "Enter")
    terminal.until("running", "step ")
    worker.send_signal(signal.SIGKILL)
    text = terminal.until("interrupted", f"spurline runs resume {RUN}")
    assert "! points" in text
    terminal.keys("q")
    terminal.until("code=0", without="! points")


def test_terminated_it_leaves_the_terminal_as_it_was(terminal: Terminal, worker: subprocess.Popen[str]) -> None:
    terminal.keys("spurline tui; echo code=$?", "Enter")
    terminal.until("step ")
    shell = int(terminal.tmux("display-message", "-p", "-t", "screen", "#{pane_pid}"))
    (screen,) = _children(shell)
    os.kill(screen, signal.SIGTERM)
    terminal.until("code=130", without="! points")
    terminal.keys("echo typed", "Enter")
    assert re.search(r"^typed$", terminal.until("typed\n"), re.MULTILINE)


def test_plain_says_how_it_stands_and_ends_with_the_run(
    spurline: Spurline, root: Path, worker: subprocess.Popen[str]
) -> None:
    worker.kill()
    worker.wait()
    ran = spurline("tui", cwd=root)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"run {RUN} is interrupted: 1 needs_human, 2 generating, 1 queued")
    assert lines[1] == "points: needs_human: which currency is meant?"
    assert "\x1b" not in ran.out
    before = spurline("tui", "--at", "+0", cwd=root)
    assert before.out.splitlines()[0].startswith(f"run {RUN} is interrupted: 4 queued")
    wrong = spurline("tui", "--at", "soon", cwd=root)
    assert (wrong.code, "no moment" in wrong.err) == (2, True)


def test_there_is_no_run_yet(spurline: Spurline, root: Path) -> None:
    ran = spurline("tui", cwd=root)
    assert ran.code == 2
    assert "there is no run 'last'" in ran.err


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], check=True, capture_output=True, text=True)
    return [int(line) for line in listed.stdout.split()]
