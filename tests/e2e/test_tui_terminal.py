"""`spurline tui` in a real terminal (tmux), on the store of a run that another process works on."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import sqlite3
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.conftest import Spurline, environment
from tests.e2e.tmux import PATIENCE_S, Terminal, opened_terminal
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
    terminal.until("\ntyped\n")


def test_a_terminal_that_goes_away_without_a_signal_takes_the_screen_along(
    script: Path, root: Path, worker: subprocess.Popen[str]
) -> None:
    terminal, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (24, 100))
    screen = subprocess.Popen(
        [script, "tui"],
        cwd=root,
        env={**environment(), "TERM": "xterm-256color"},
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    )
    os.close(its_end)
    drawn = b""
    while b"points" not in drawn:
        drawn += os.read(terminal, 65536)
    os.close(terminal)
    assert screen.wait(timeout=PATIENCE_S) == 130
    assert worker.poll() is None


def test_suspended_it_gives_the_terminal_back_and_goes_on(terminal: Terminal, worker: subprocess.Popen[str]) -> None:
    terminal.keys("spurline tui", "Enter")
    terminal.until("step ", "? Help")
    terminal.keys("C-z")
    terminal.until("Stopped", without="? Help")
    terminal.keys("fg", "Enter")
    terminal.until("step ", "? Help", without="Stopped")
    terminal.keys("q")
    terminal.until("Stopped", without="? Help")
    terminal.keys("echo code=$?", "Enter")
    terminal.until("code=0\n")


def test_without_colour_it_says_the_same_in_the_terminal_s_own(
    terminal: Terminal, worker: subprocess.Popen[str]
) -> None:
    terminal.keys("NO_COLOR=1 COLORTERM=truecolor spurline tui; echo code=$?", "Enter")
    terminal.until("! points", "which currency is meant?", "step ")
    drawn = terminal.tmux("capture-pane", "-e", "-p", "-t", "screen")
    colours = [code for codes in re.findall(r"\x1b\[([\d;]+)m", drawn) for code in (codes + ";").split("38;2;")[1:]]
    # Greys are no colour: those of the theme, blended as brightness.
    assert colours
    assert all(len(set(code.split(";")[:3])) == 1 for code in colours)
    terminal.keys("q")
    terminal.until("code=0")


def test_what_cannot_be_opened_is_said_when_the_screen_has_left(terminal: Terminal, root: Path) -> None:
    with at_work(root):
        pass
    path = root / ".spurline" / "spurline.db"
    with sqlite3.connect(path) as store:
        store.execute("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    # The path of a test may be longer than a line.
    terminal.tmux("resize-window", "-t", "screen", "-x", "250", "-y", "24")
    terminal.keys("spurline tui; echo code=$?", "Enter")
    terminal.until("was written by a newer Spurline", "upgrade Spurline", "code=3")
    alone = sqlite3.connect(path, isolation_level=None)
    alone.execute("PRAGMA locking_mode = EXCLUSIVE")
    alone.execute("BEGIN EXCLUSIVE")
    terminal.keys("clear; spurline tui; echo code=$?", "Enter")
    terminal.until("locked", "code=3")
    alone.close()


def test_it_is_left_while_the_store_does_not_answer(terminal: Terminal) -> None:
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"postgresql+psycopg://127.0.0.1:{silent.getsockname()[1]}/nothing"
        terminal.keys(f"SPURLINE_STORE={place} spurline tui; echo code=$?", "Enter")
        kept, _ = silent.accept()
        with kept:
            terminal.until("reading the run")
            terminal.keys("q")
            terminal.until("code=0")


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
    grouped = spurline("tui", "--group", "reason", cwd=root).out.splitlines()
    assert grouped[1:3] == ["reason which currency is meant?: 1 needs_human", lines[1]]
    assert "reason at work: 2 generating" in grouped
    assert grouped[-1] == "reason waits for a free agent: 1 queued"
    before = spurline("tui", "--at", "+0", cwd=root)
    assert before.out.splitlines()[0].startswith(f"run {RUN} is interrupted: 4 queued")
    wrong = spurline("tui", "--at", "soon", cwd=root)
    assert (wrong.code, "no moment" in wrong.err) == (2, True)


def test_what_agents_write_is_obeyed_neither_on_the_screen_nor_in_plain_lines(
    spurline: Spurline, terminal: Terminal, root: Path
) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\x9b31m[bold red]x[/] \u202e\u2066דג 漢字 " + "z" * 1_000_000
    with at_work(root):
        pass
    with sqlite3.connect(root / ".spurline" / "spurline.db") as store:
        store.execute("UPDATE agents SET reason = ? WHERE ticket = 'points'", (evil,))
        store.execute("UPDATE agents SET title = ? WHERE ticket = 'mail'", (evil,))
        told = json.dumps({"doing": evil})
        store.execute("UPDATE events SET data = ? WHERE seq = (SELECT max(seq) FROM events)", (told,))
    store.close()
    ran = spurline("tui", cwd=root)
    assert "points: needs_human: " in ran.out
    assert "[bold red]x[/]" in ran.out
    assert not set(ran.out) & set("\x1b\x07\x9b\u202e\u2066")
    assert max(map(len, ran.out.splitlines())) < 2000
    terminal.keys("spurline tui", "Enter")
    shown = terminal.until("! points", "[bold red]x[/]", "漢字", "? Help")
    assert "owned" not in terminal.tmux("display-message", "-p", "-t", "screen", "#{pane_title}")
    assert "\u202e" not in shown
    terminal.tmux("resize-window", "-t", "screen", "-x", "20", "-y", "5")
    terminal.until("! points", without="? Help")


def test_there_is_no_run_yet(spurline: Spurline, root: Path) -> None:
    ran = spurline("tui", cwd=root)
    assert ran.code == 2
    assert "there is no run 'last'" in ran.err


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], check=True, capture_output=True, text=True)
    return [int(line) for line in listed.stdout.split()]
