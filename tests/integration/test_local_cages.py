"""What a fork and its build can reach of the machine: real processes that try, and a baseline that may."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sandbox.confinement import confinement
from sandbox.driver import Source
from sandbox.local.driver import LocalDriver
from sandbox.sample import Sample, make_sample
from sandbox.service import Ready, Service, System
from tasks.errors import ForkError

pytestmark = pytest.mark.skipif(confinement() == "none", reason="needs bubblewrap")

# Answers with what came of trying everything in ATTEMPTS, a JSON object of Python expressions.
PRYING = """\
import json, os, pathlib, signal, socket, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

def told(attempt):
    try:
        return str(eval(attempt))
    except Exception as error:
        return type(error).__name__

found = {name: told(attempt) for name, attempt in json.loads(os.environ["ATTEMPTS"]).items()}

def bye(*_):
    print("left in order", flush=True)
    time.sleep(0.2)
    os._exit(0)

signal.signal(signal.SIGTERM, bye)

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
"""


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """The sample, prying, with an untracked folder `deps` and an untracked secret."""
    made = make_sample(tmp_path / "repo")
    texts = {"b/app.py": PRYING, "c/data.txt": "theirs", ".gitignore": "deps\nsecret.env\n"}
    for name, text in texts.items():
        (made.repo / name).write_text(text)
    (made.repo / "deps").mkdir()
    (made.repo / "deps" / "lib.txt").write_text("library")
    (made.repo / "secret.env").write_text("hunter2")
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.invalid")
    for words in (["add", "--all"], [*identity, "commit", "--quiet", "--message", "prying"]):
        subprocess.run(["git", *words], cwd=made.repo, check=True)
    return made


@asynccontextmanager
async def running(sample: Sample, state: Path, attempts: dict[str, str], **changes: Any) -> AsyncIterator[LocalDriver]:
    service = Service(
        name="b",
        cwd="b",
        command=(sys.executable, "app.py"),
        env={"ATTEMPTS": json.dumps(attempts)},
        link=("deps",),
        ready=Ready(kind="http", target="/", timeout_s=30),
        **changes,
    )
    async with LocalDriver(sample.repo, state) as driver:
        await driver.up(System(project="sample", entry="b", services={"b": service}), "HEAD")
        yield driver


async def asked(url: str) -> dict[str, str]:
    async with httpx.AsyncClient(timeout=20) as http:
        answers: dict[str, str] = (await http.get(url)).json()
        return answers


async def test_a_fork_reaches_its_own_folder_and_nothing_of_the_user(sample: Sample, tmp_path: Path) -> None:
    write = "pathlib.Path({!r}).write_text('x')".format
    attempts = {
        "own": write("note.txt"),
        "neighbour's code": write("../c/data.txt"),
        "neighbour's code, reading": "pathlib.Path('../c/data.txt').read_text()",
        "linked": "pathlib.Path('../deps/lib.txt').read_text()",
        "linked, writing": write("../deps/lib.txt"),
        "work tree": f"pathlib.Path({str(sample.repo / 'secret.env')!r}).read_text()",
        "state": f"sorted(os.listdir({str(tmp_path / 'state')!r}))",
        "processes": "len([name for name in os.listdir('/proc') if name.isdigit()]) < 5",
        "us": f"os.kill({os.getpid()}, 0)",
    }
    async with running(sample, tmp_path / "state", attempts) as driver:
        baseline = await driver.baseline()
        assert baseline is not None
        team = await asked(baseline.urls["b"])
        assert (team["work tree"], team["us"]) == ("hunter2", "None"), "the baseline is the team's own"
        (sample.repo / "deps" / "lib.txt").write_text("library")

        await driver.create("x", ttl_s=60)
        box = await driver.fork("x", {"b": Source(commit="HEAD")})
        fork = await asked(box.urls["b"])

    assert fork["own"] == "1"
    assert fork["neighbour's code"] == "OSError"
    assert fork["neighbour's code, reading"] in ("theirs", "x")
    assert fork["linked"] == "library"
    assert fork["linked, writing"] == "OSError"
    assert (sample.repo / "deps" / "lib.txt").read_text() == "library"
    assert fork["work tree"] == "FileNotFoundError"
    assert fork["state"] == "['checkouts']"
    assert fork["processes"] == "True"
    assert fork["us"] == "ProcessLookupError"


async def test_a_confined_fork_ends_in_order(sample: Sample, tmp_path: Path) -> None:
    async with running(sample, tmp_path / "state", {}) as driver:
        await driver.create("x", ttl_s=60)
        box = await driver.fork("x", {"b": Source(commit="HEAD")})
        pid = box.forks["b"].pid
        assert pid is not None
        inside = [child.pid for child in psutil.Process(pid).children(recursive=True)]
        assert inside
        box = await driver.fork("x", {"b": Source(commit="HEAD")})
        while psutil.pid_exists(pid):  # noqa: ASYNC110 - it drains
            await asyncio.sleep(0.02)
        while any(psutil.pid_exists(one) for one in inside):  # noqa: ASYNC110 - dying takes a moment
            await asyncio.sleep(0.02)
        lines = [line.text for line in await driver.logs("b", sandbox="x")]
    assert "left in order" in lines


async def test_a_build_is_confined_and_changes_its_own_checkout(sample: Sample, tmp_path: Path) -> None:
    secret = sample.repo / "secret.env"
    build = f"(cat {secret} || echo hidden) > ../seen.txt; echo x > ../deps/lib.txt; true"
    attempts = {"seen": "pathlib.Path('../seen.txt').read_text().strip()"}
    async with running(sample, tmp_path / "state", attempts, build=build) as driver:
        baseline = await driver.baseline()
        assert baseline is not None
        assert (await asked(baseline.urls["b"]))["seen"] == "hunter2", "the baseline is the team's own"
        (sample.repo / "deps" / "lib.txt").write_text("library")
        await driver.create("x", ttl_s=60)
        box = await driver.fork("x", {"b": Source(commit="HEAD")})
        assert (await asked(box.urls["b"]))["seen"] == "hidden"
    assert (sample.repo / "deps" / "lib.txt").read_text() == "library"


async def test_what_a_fork_wrote_is_not_what_its_next_generation_starts_from(sample: Sample, tmp_path: Path) -> None:
    attempts = {
        "found": "pathlib.Path('note.txt').exists()",
        "own": "pathlib.Path('note.txt').write_text('x')",
    }
    async with running(sample, tmp_path / "state", attempts) as driver:
        await driver.create("x", ttl_s=60)
        await driver.create("y", ttl_s=60)
        for name in ("x", "x", "y"):
            box = await driver.fork(name, {"b": Source(commit="HEAD")})
            assert await asked(box.urls["b"]) == {"found": "False", "own": "1"}


async def test_who_is_let_out_is_let_out(sample: Sample, tmp_path: Path) -> None:
    attempts = {"work tree": f"pathlib.Path({str(sample.repo / 'secret.env')!r}).read_text()"}
    async with running(sample, tmp_path / "state", attempts, confine=False) as driver:
        await driver.create("x", ttl_s=60)
        box = await driver.fork("x", {"b": Source(commit="HEAD")})
        assert (await asked(box.urls["b"]))["work tree"] == "hunter2"


async def test_a_folder_that_is_a_symlink_opens_no_cage(sample: Sample, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "app.py").write_text(PRYING)
    attempts = {"writing": "pathlib.Path('note.txt').write_text('x')"}
    async with running(sample, tmp_path / "state", attempts) as driver:
        await driver.create("x", ttl_s=60)
        for leads_to in (str(theirs), "/", "../../.."):
            with pytest.raises(ForkError, match="leads out of"):
                await driver.fork("x", {"b": Source(commit=linked(sample, leads_to))})
        with pytest.raises(ForkError, match="does not exist"):
            await driver.fork("x", {"b": Source(commit=linked(sample, "b"))})
        box = await driver.fork("x", {"b": Source(commit=linked(sample, "c"))})
        assert (await asked(box.urls["b"]))["writing"] == "OSError", "it is not the service's own folder"
    assert [path.name for path in theirs.iterdir()] == ["app.py"]


def linked(sample: Sample, leads_to: str) -> str:
    """A commit in which the service's folder is a symlink, and its code is in `c`."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=sample.repo, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    head = git("rev-parse", "HEAD")
    (sample.repo / "b" / "app.py").rename(sample.repo / "c" / "app.py")
    shutil.rmtree(sample.repo / "b")
    (sample.repo / "b").symlink_to(leads_to)
    git("add", "--all")
    git("-c", "user.name=T", "-c", "user.email=t@example.invalid", "commit", "--quiet", "--message", "linked")
    commit = git("rev-parse", "HEAD")
    git("reset", "--quiet", "--hard", head)
    return commit


async def test_a_fork_cannot_listen_beside_somebody_else(sample: Sample, tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        share = "(lambda s: (s.setsockopt({level}, {option}, 1), s.bind(('127.0.0.1', {port}))))(socket.socket())"
        attempts = {
            "sharing": share.format(
                level=socket.SOL_SOCKET, option=socket.SO_REUSEPORT, port=listening.getsockname()[1]
            ),
            "reusing": share.format(level=socket.SOL_SOCKET, option=socket.SO_REUSEADDR, port=0),
        }
        async with running(sample, tmp_path / "state", attempts) as driver:
            baseline = await driver.baseline()
            assert baseline is not None
            assert set((await asked(baseline.urls["b"])).values()) == {"(None, None)"}, "the kernel allows it"
            await driver.create("x", ttl_s=60)
            box = await driver.fork("x", {"b": Source(commit="HEAD")})
            assert await asked(box.urls["b"]) == {"sharing": "OSError", "reusing": "(None, None)"}
