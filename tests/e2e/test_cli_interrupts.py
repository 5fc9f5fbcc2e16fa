"""Ctrl-C at any moment, twice, and readers that go away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from tests.processes import GRACE_S, wait_for

Spurline = Callable[..., Any]
MakeRepo = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def mark() -> str:
    """What the command line of every process of this test's service holds."""
    return f"never-ready-{uuid4().hex}"


@pytest.fixture
def root(make_repo: MakeRepo, mark: str, spurline: Spurline) -> Iterator[Path]:
    """A project whose one service says that it began, and never gets ready."""
    command = ["sh", "-c", f"echo began; exec sleep 1000 # {mark}"]
    ready = "ready: {tcp: true, timeout: 10m}"
    settings = f"project: t\nbaseline: {{entry: tea, services: {{tea: {{command: {command}, {ready}}}}}}}\n"
    folder = make_repo({"spurline.yaml": settings})
    yield folder
    spurline("baseline", "down", cwd=folder)


def processes_with(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if any(mark in argument for argument in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def start(script: Path, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    # A session of its own: the signal goes to this command only, as from a terminal whose job it is.
    return subprocess.Popen(
        [script, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_baseline_up_leaves_nothing(
    script: Path, root: Path, mark: str, spurline: Spurline, number: signal.Signals
) -> None:
    process = start(script, "baseline", "up", cwd=root)
    assert process.stderr is not None
    wait_for("still starting", process.stderr)  # it runs by now, and waits for the service
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-2:] == ["stopping; once more stops at once", "nothing was left running"]
    psutil.wait_procs(processes_with(mark), timeout=GRACE_S)
    assert processes_with(mark) == []
    assert spurline("baseline", "status", "--json", cwd=root).objects == [{"up": False}]


def test_before_anything_began(script: Path, root: Path, mark: str) -> None:
    process = start(script, "baseline", "up", cwd=root)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)  # the interpreter itself was still starting
    assert processes_with(mark) == []


def test_while_the_command_line_itself_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'harness.cli.errors': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "from harness.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_second_one_stops_at_once(tmp_path: Path) -> None:
    program = (
        "import asyncio\n"
        "from harness.cli.interrupts import complete\n"
        "async def stubborn():\n"
        "    print('ready', flush=True)\n"
        "    try: await asyncio.sleep(1000)\n"
        "    finally: await asyncio.sleep(1000)\n"
        "complete(stubborn())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    wait_for("ready", process.stdout)
    process.send_signal(signal.SIGINT)
    wait_for("once more stops at once", process.stderr)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "stopped at once\n"


def test_what_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, signal\n"
        "from harness.cli.interrupts import complete\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "async def patient():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    await asyncio.sleep(0)\n"
        "    return 'went on'\n"
        "print(complete(patient()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "went on\n"


def test_a_reader_that_goes_away_is_no_error(script: Path, make_repo: MakeRepo) -> None:
    tickets = {f"tickets/{n}.md": f"---\nid: t{n}\ntitle: T\n---\n" for n in range(20)}
    settings = "project: t\nbaseline: {entry: a, services: {a: {command: [a]}}}\n"
    root = make_repo({"spurline.yaml": settings, **tickets})
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [script, "tickets", "list", "--json"], cwd=root, stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")
