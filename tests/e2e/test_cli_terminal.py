"""The installed `spurline` on a real terminal of forty columns: nothing crashes, nothing is lost, nothing is obeyed."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping
from fcntl import ioctl
from pathlib import Path

import pytest

MakeRepo = Callable[[Mapping[str, str]], Path]

_STYLES = re.compile(r"\x1b\[[0-9;]*m")
SETTINGS = "project: t\nbaseline: {entry: web, services: {web: {command: [a]}}}\n"
TITLE = "Rename every single account holder before the summer release"


def on_terminal(script: Path, *arguments: str, cwd: Path, columns: int, env: Mapping[str, str]) -> tuple[int, str]:
    """Run with stdin, stdout and stderr on a pseudo-terminal; the exit code and all that was written."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [script, *arguments],
        cwd=cwd,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", **env},
        start_new_session=True,
    )
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux: the other side was closed
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    return process.wait(timeout=60), written.decode().replace("\r\n", "\n")


@pytest.fixture
def root(make_repo: MakeRepo) -> Path:
    head = f"id: a-ticket-with-a-rather-long-name\ntitle: {TITLE}\nservices: [web]"
    evil = 'id: evil\ntitle: "\\e[2J\\e]0;owned\\a[bold red]title[/] \\u202e"'
    return make_repo(
        {
            "spurline.yaml": SETTINGS,
            "tickets/a.md": f"---\n{head}\n---\n",
            "tickets/b.md": f"---\n{evil}\n---\n",
        }
    )


def test_a_table_in_forty_columns_loses_nothing(script: Path, root: Path) -> None:
    code, text = on_terminal(script, "tickets", "list", cwd=root, columns=40, env={})
    assert code == 0
    shown = _STYLES.sub("", text)
    assert "a-ticket-with-a-rather-long-name" in shown
    assert TITLE in shown.replace("\n", "")
    assert "services: web" in shown


def test_text_from_tickets_is_never_obeyed(script: Path, root: Path) -> None:
    _, text = on_terminal(script, "tickets", "list", cwd=root, columns=100, env={})
    left = _STYLES.sub("", text)
    assert "[bold red]title[/]" in left
    assert "\x1b" not in left
    assert "owned" not in left
    assert "\u202e" not in left


def test_no_color_means_none(script: Path, root: Path) -> None:
    (root / "tickets" / "c.md").write_text("nothing\n")
    code, text = on_terminal(script, "tickets", "lint", cwd=root, columns=100, env={"NO_COLOR": "1"})
    assert code == 2
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m", text)
    colourful = on_terminal(script, "tickets", "list", "-x", cwd=root, columns=100, env={})[1]
    assert re.search(r"\x1b\[[0-9;]*31m", colourful)


@pytest.mark.parametrize(
    ("columns", "arguments"),
    [(40, ["--help"]), (12, ["sandbox", "create", "--help"]), (12, ["sandbox", "list"]), (40, ["baseline", "up"])],
)
def test_a_narrow_terminal_breaks_nothing(script: Path, root: Path, columns: int, arguments: list[str]) -> None:
    (root / "spurline.yaml").write_text(SETTINGS.replace("entry: web", "entry: wbe"))
    code, text = on_terminal(script, *arguments, cwd=root, columns=columns, env={})
    assert code in (0, 2)
    assert "Traceback" not in text
    assert text


def test_a_baseline_that_comes_up_is_a_list_of_its_services(script: Path, make_repo: MakeRepo) -> None:
    # Not before the list was drawn once.
    command = 'command: [sh, -c, "sleep 1; exec python3 -m http.server ${port}"]'
    services = f"{{web: {{{command}}}, api: {{{command}}}}}"
    root = make_repo({"spurline.yaml": f"project: t\nbaseline:\n  entry: web\n  services: {services}\n"})
    code, text = on_terminal(script, "baseline", "up", cwd=root, columns=100, env={})
    on_terminal(script, "baseline", "down", cwd=root, columns=100, env={})
    assert code == 0
    shown = _STYLES.sub("", text)
    assert re.search(r"^.*  web  starting \d+\.\d s$", shown, re.MULTILINE)
    # What was drawn last stays above the data.
    last = shown.rpartition("web  ready after ")[2]
    assert re.match(r"\d+\.\d\d s\n  api  ready after \d+\.\d\d s\n", last)
    assert "baseline  healthy" in last


def test_a_terminal_that_knows_only_ascii(script: Path, root: Path) -> None:
    (root / "tickets" / "c.md").write_text("---\nid: c\ntitle: Grüße → 茶\n---\n")
    code, text = on_terminal(
        script, "tickets", "list", cwd=root, columns=100, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    )
    assert code == 0
    assert "Gr\\xfc\\xdfe" in text
