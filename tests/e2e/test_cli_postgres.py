"""A run whose store is a PostgreSQL, as its user sees it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox.sample import APP
from tests.postgres import Server

Spurline = Callable[..., Any]
MakeRepo = Callable[[Mapping[str, str]], Path]

pytestmark = pytest.mark.timeout(300)

SECRET = "s3cr3t-w0rd"
SERVICE = f"command: [{sys.executable}, app.py], ready: {{http: /healthz}}"
SETTINGS = f"""\
project: sample
baseline:
  entry: a
  services:
    a: {{cwd: a, {SERVICE}, env: {{NEXT: "${{host:b}}:${{port:b}}"}}}}
    b: {{cwd: b, {SERVICE}}}
agent: {{kind: rehearsal, max_iterations: 2}}
"""
TICKET = """\
---
id: loud
title: b says LOUD
services: [b]
checks:
  http: [{name: the word, request: {path: /}, expect: {status: 200, json: {next: {word: LOUD}}}}]
---
Please.
"""
RECORDING = """\
ticket: loud
turns:
  - {say: I write it., use: [{tool: write, input: {file_path: b/word.txt, content: "LOUD"}}]}
  - say: That is it.
"""


def sample(make_repo: MakeRepo, more: str = "") -> Path:
    files = {f"{name}/{file}": text for name in ("a", "b") for file, text in (("app.py", APP), ("word.txt", name))}
    recorded = {"tickets/loud.md": TICKET, "recordings/loud.yaml": RECORDING}
    return make_repo({**files, **recorded, "spurline.yaml": SETTINGS + more})


def test_a_run_and_what_is_shown_of_it(
    postgres: Server, postgres_url: str, make_repo: MakeRepo, spurline: Spurline
) -> None:
    root = sample(make_repo, f"store: {postgres_url}\n")
    ran = spurline("run", "--json", cwd=root, timeout_s=200)
    assert ran.code == 0, ran.err + ran.out
    # The server trusts everybody: a password is as good as none, and must not be seen all the same.
    secret = {"SPURLINE_STORE": postgres_url.replace("spurline@", f"spurline:{SECRET}@")}
    shown = spurline("runs", "show", "last", "--json", cwd=root, env=secret)
    assert [agent["state"] for agent in shown.objects[0]["agents"]] == ["verified"]
    doctor = spurline("doctor", cwd=root, env=secret)
    assert "store: postgresql://spurline@127.0.0.1" in doctor.out
    said = [shown.out, shown.err, doctor.out, doctor.err]
    said += [path.read_text(errors="replace") for path in (root / ".spurline").rglob("*") if path.is_file()]
    assert SECRET not in "".join(said)
    assert list((root / ".spurline").glob("*.db")) == []
    name = postgres_url.rpartition("/")[2]
    assert postgres.execute("SELECT count(*) > 0 FROM spurline_positions.checkpoints", name) == [(True,)]


def test_a_store_that_cannot_be_reached(make_repo: MakeRepo, spurline: Spurline) -> None:
    root = sample(make_repo)
    env = {"SPURLINE_STORE": f"postgresql+psycopg://spurline:{SECRET}@127.0.0.1:1/nowhere"}
    for command in (("runs", "list"), ("run",)):
        ran = spurline(*command, cwd=root, env=env)
        assert ran.code == 3, ran.err
        assert "postgresql://spurline@127.0.0.1:1/nowhere" in ran.err
        assert "is the database up" in ran.err
        assert SECRET not in ran.err + ran.out
    ran = spurline("doctor", cwd=root, env=env)
    assert ran.code == 3
    assert "problem  store: postgresql://spurline@127.0.0.1:1/nowhere" in ran.out
    assert SECRET not in ran.err + ran.out
