"""A tiny system in a git repository made on the fly: what the conformance suite and the benchmarks of drivers run.

Three services of the standard library, `a` calls `b`, `b` calls `c`, and each forwards the headers that carry a
key. The history has one commit for everything that a change can do: answer differently, crash, start slowly.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.service import Ready, Service, System

APP: Final = '''\
"""GET / answers with this service's word and what the next service answers; GET /slow/MS does so later."""
import http.client
import json
import os
import pathlib
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CARRIERS = ("baggage", "traceparent", "tracestate", "x-spurline-key")
NEXT = os.environ.get("NEXT", "")
WORD = pathlib.Path("word.txt").read_text().strip()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/slow/"):
            time.sleep(int(self.path.removeprefix("/slow/")) / 1000)
        answer = {"word": WORD, "next": self.next() if NEXT and self.path != "/healthz" else None}
        print("served", self.path, "with", WORD)
        if self.path.startswith("/fail"):
            return self.answer(500, {"error": f"{WORD} was asked to fail"})
        self.answer(200, answer)

    def next(self):
        carried = {name: self.headers[name] for name in CARRIERS if name in self.headers}
        connection = http.client.HTTPConnection(NEXT)
        connection.request("GET", "/", headers=carried)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return json.loads(body) if response.status == 200 else {"status": response.status}

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


print("starting", WORD)
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
'''
SERVICES: Final = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Sample:
    """The repository and its commits (full ids)."""

    repo: Path
    system: System
    base: str
    changed: str
    """`b` says `changed-b`, `c` says `changed-c`."""
    again: str
    """`b` says `again-b`."""
    crashing: str
    """`b` raises as it starts, saying `no more tea`."""
    slow: str
    """`b` takes half a second to start and says `slow-b`."""


def make_sample(repo: Path) -> Sample:
    """Make the repository in `repo`, which must not exist yet."""
    repo.mkdir(parents=True)
    _git(repo, "init", "--quiet", "--initial-branch=main")
    base = _commit(repo, {f"{name}/app.py": APP for name in SERVICES} | {f"{n}/word.txt": n for n in SERVICES})
    changed = _commit(repo, {"b/word.txt": "changed-b", "c/word.txt": "changed-c"})
    again = _commit(repo, {"b/word.txt": "again-b"})
    crashing = _commit(repo, {"b/app.py": "print('brewing')\nraise RuntimeError('no more tea')\n"})
    slow = _commit(repo, {"b/word.txt": "slow-b", "b/app.py": "import time\ntime.sleep(0.5)\n" + APP})
    _git(repo, "checkout", "--quiet", base)
    return Sample(repo, sample_system(), base, changed, again, crashing, slow)


def sample_system() -> System:
    """`a` → `b` → `c`, entered at `a`."""
    following = {"a": "b", "b": "c"}
    services = {
        name: Service(
            name=name,
            cwd=name,
            command=(sys.executable, "app.py"),
            env={"NEXT": f"${{host:{following[name]}}}:${{port:{following[name]}}}"} if name in following else {},
            ready=Ready(kind="http", target="/healthz", timeout_s=20.0),
        )
        for name in SERVICES
    }
    return System(project="sample", entry="a", services=services)


def _commit(repo: Path, files: Mapping[str, str]) -> str:
    for name, text in files.items():
        path = repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    _git(repo, "add", "--all")
    _git(repo, "commit", "--quiet", "--message", ", ".join(sorted(files)))
    return _git(repo, "rev-parse", "HEAD")


def _git(repo: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Sample", "-c", "user.email=sample@example.invalid", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=repo,
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(repo), "GIT_CONFIG_NOSYSTEM": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()
