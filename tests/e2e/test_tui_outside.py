"""Shell and editor from a real screen: the terminal is theirs until they end, and then the screen's again."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import psutil

from tests.e2e.test_tui_terminal import root, terminal, worker
from tests.e2e.tmux import Terminal
from tests.e2e.worker import RUN

__all__ = ["root", "terminal", "worker"]


def worktree(root: Path) -> Path:
    folder = root / ".spurline" / "worktrees" / RUN / "points"
    folder.mkdir(parents=True)
    return folder


def test_a_shell_in_the_worktree_and_back(terminal: Terminal, root: Path, worker: subprocess.Popen[str]) -> None:
    folder = worktree(root)
    terminal.keys("PS1='of mine ' SHELL=/bin/sh spurline tui; echo code=$?", "Enter")
    terminal.until("! points")
    terminal.keys("S")
    terminal.until("your own shell, not confined, in the agent's worktree", without="ended")
    terminal.keys("pwd | tail -c 28; env | grep -c SPURLINE_; sleep 60", "Enter")
    terminal.until(f"\n{RUN}/{folder.name}\n0\n")
    # Ctrl-C is the shell's, and neither the screen's nor the run's.
    terminal.keys("C-c")
    terminal.keys("echo $((40 + 2))", "Enter")
    text = terminal.until("42")
    assert re.search(r"^code=", text, re.MULTILINE) is None
    terminal.keys("exit 3", "Enter")
    terminal.until("it ended with 3", "1/4 ended")
    terminal.tmux("resize-window", "-t", "screen", "-x", "120", "-y", "30")
    terminal.until("verdict", "step ")
    terminal.keys("q")
    terminal.until("code=0", without="! points")
    assert worker.poll() is None


def test_an_editor_in_the_worktree_and_back(terminal: Terminal, root: Path, worker: subprocess.Popen[str]) -> None:
    folder, editor = worktree(root), root / "editor"
    editor.write_text('#!/bin/sh\necho "edits $* in $PWD"; read line; echo "$line" >typed\n')
    editor.chmod(0o755)
    terminal.keys(f"VISUAL='{editor} -w' spurline tui; echo code=$?", "Enter")
    terminal.until("! points")
    terminal.keys("Enter")
    terminal.until("1 timeline")
    terminal.keys("e")
    terminal.until("edits -w . in", folder.name, without="timeline")
    terminal.keys("hello", "Enter")
    terminal.until("1 timeline")
    assert (folder / "typed").read_text() == "hello\n"
    terminal.keys("q", "q")
    terminal.until("code=0")


def test_terminated_under_a_shell_it_ends_after_it(
    terminal: Terminal, root: Path, worker: subprocess.Popen[str]
) -> None:
    worktree(root)
    terminal.keys("SHELL=/bin/sh spurline tui; echo code=$?", "Enter")
    terminal.until("! points")
    terminal.keys("S")
    terminal.until("your own shell", without="ended")
    terminal.keys("kill -TERM $PPID; echo still $((40 + 2))", "Enter")
    terminal.until("still 42")
    terminal.keys("exit", "Enter")
    terminal.until("code=130")


def test_a_terminal_that_goes_away_under_a_shell_takes_the_screen_along(
    terminal: Terminal, root: Path, worker: subprocess.Popen[str]
) -> None:
    worktree(root)
    terminal.keys("SHELL=/bin/sh exec spurline tui", "Enter")
    terminal.until("! points")
    screen = psutil.Process(int(terminal.tmux("display-message", "-p", "-t", "screen", "#{pane_pid}")))
    terminal.keys("S")
    terminal.until("your own shell", without="ended")
    terminal.tmux("new-window", "-d", "-t", "screen", "sleep 100")
    terminal.tmux("kill-window", "-t", "screen:0")
    screen.wait(timeout=30)
    assert worker.poll() is None
