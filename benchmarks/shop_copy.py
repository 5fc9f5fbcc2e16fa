"""The bundled shop in a git repository of its own, and what the benchmarks of the local driver need around it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.project import Project, read_project
from sandbox.confinement import scrubbed
from sandbox.local.readiness import is_ready
from sandbox.service import Service, fill

SHOP: Final = Path(__file__).parents[1] / "examples" / "shop"
RESULTS: Final = Path(__file__).parent / "results"
HOST: Final = "127.0.0.1"
_POLL_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class Shop:
    """A fresh repository with the shop in it, and its base commit."""

    project: Project
    base: str

    def change(self, service: str, number: int) -> str:
        """A new commit that changes one file of `service`, as an agent's would."""
        root = self.project.root
        (root / "services" / service / "change.txt").write_text(f"{number}\n")
        return commit(root)


@contextmanager
def shop(folder: Path) -> Iterator[Shop]:
    """Copy the shop below `folder` and commit it. `python` is this interpreter for as long as this lasts."""
    root = folder / "shop"
    shutil.copytree(SHOP, root, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache", ".spurline"))
    git(root, "init", "--quiet")
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{before}"
    try:
        yield Shop(read_project(root), commit(root))
    finally:
        os.environ["PATH"] = before


def commit(root: Path) -> str:
    git(root, "add", "--all")
    git(root, "-c", "user.name=b", "-c", "user.email=b@example.invalid", "commit", "--quiet", "--message", "change")
    return git(root, "rev-parse", "HEAD")


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def checkout(root: Path, revision: str, into: Path) -> None:
    """Write the tree of a commit, the plain way."""
    into.mkdir(parents=True)
    with subprocess.Popen(["git", "archive", revision], cwd=root, stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", str(into)], stdin=archive.stdout, check=True)


@contextmanager
def bare(service: Service, root: Path, port: int, addresses: dict[str, int]) -> Iterator[subprocess.Popen[bytes]]:
    """The service as its authors start it: no Spurline, output thrown away. `addresses` are its neighbours' ports."""

    def address(name: str) -> tuple[str, int]:
        return HOST, addresses.get(name, 1)

    env = {name: fill(value, address, port) for name, value in service.env.items()}
    process = subprocess.Popen(
        [fill(part, address, port) for part in service.command],
        cwd=root / service.cwd,
        env={**scrubbed(os.environ), **env, "PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def until_ready(service: Service, port: int) -> None:
    while not await is_ready(service.ready, HOST, port, log=None):  # noqa: ASYNC110 - another process gets ready
        await asyncio.sleep(_POLL_S)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has; all are held until all are known, or one might be given twice."""
    with ExitStack() as held:
        listeners = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]


async def quiet(limit_load: float = 1.5, patience_s: float = 60.0) -> float:
    """Wait a while for other work on this machine to end; the load average that was there then."""
    deadline = time.monotonic() + patience_s
    while os.getloadavg()[0] > limit_load and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody tells us
        await asyncio.sleep(2)
    return os.getloadavg()[0]
