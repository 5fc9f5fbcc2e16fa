"""`spurline run --record`: a run with a model writes recordings; played alone, elsewhere, they end the same way.

The model is the rehearsal server, behind the address that a user would set: for Spurline it is a model like any other.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from harness.agents.rehearsal.recording import read_recordings
from harness.agents.rehearsal.server import serve_rehearsal
from tests.e2e.conftest import KEYED_TRACE
from tests.e2e.sample import sample_project
from tests.processes import end, wait_for

Spurline = Callable[..., Any]
MakeRepo = Callable[[Mapping[str, str]], Path]

pytestmark = pytest.mark.timeout(300)

API_KEY = "sk-ant-not-for-any-file"
SETTINGS = """\
agent: {kind: anthropic, max_iterations: 2}
limits: {agents: 1}
"""
TICKET = """\
---
id: {id}
title: b says {word}
services: [b]
priority: {priority}
checks:
  http: [{{name: the word, request: {{path: /}}, expect: {{status: 200, json: {{next: {{word: {word}}}}}}}}}]
---
Please.
"""
ROOT = "ROOT"
# A turn that is cut, one that names the repository's own place, and a second iteration after real evidence.
RECORDINGS = {
    "louder": f"""\
ticket: louder
turns:
  - say: The word is in a file, I think
    stop: max_tokens
  - say: I look.
    use:
      - {{tool: bash, input: {{command: "ls {ROOT}; pwd; cat b/word.txt"}}}}
      - {{tool: read, input: {{file_path: {ROOT}/b/word.txt}}}}
    next: [{{matches: '(?m)^b$', go: write}}, {{go: lost}}]
  - id: write
    say: I write it.
    use: [{{tool: write, input: {{file_path: b/word.txt, content: "loud\\n"}}}}]
  - say: Louder.
    next: [{{contains: "LOUD", go: mend}}, {{go: lost}}]
  - id: mend
    say: Louder still.
    use: [{{tool: edit, input: {{file_path: b/word.txt, old_string: loud, new_string: LOUD}}}}]
  - say: That is it.
  - {{id: lost, say: I know no further.}}
""",
    "asks": """\
ticket: asks
turns:
  - {say: Which?, use: [{tool: ask_human, input: {reason: "Which word, and why?"}}]}
""",
    "stubborn": """\
ticket: stubborn
turns:
  - say: I write it.
    use: [{tool: write, input: {file_path: b/word.txt, content: quite}}]
  - say: It is right.
  - say: It is right, I said.
    use: [{tool: write, input: {file_path: b/word.txt, content: "quite so"}}]
  - say: Look again.
""",
    "sleeps": """\
ticket: sleeps
turns:
  - {say: I wait., use: [{tool: bash, input: {command: sleep 1000}}]}
""",
}
STORIES = ("louder", "asks", "stubborn")


def sample(make_repo: MakeRepo, *tickets: str) -> Path:
    files = {
        **sample_project({"a": "b", "b": None}, SETTINGS),
        **{
            f"tickets/{ticket}.md": TICKET.format(id=ticket, word=f"{ticket[:4].upper()}", priority=-place)
            for place, ticket in enumerate(tickets)
        },
    }
    return make_repo(files)


@contextmanager
def model(folder: Path, root: Path) -> Iterator[dict[str, str]]:
    """A model that knows the tickets; the environment in which a user reaches it."""
    folder.mkdir()
    for name, text in RECORDINGS.items():
        (folder / f"{name}.yaml").write_text(text.replace(ROOT, str(root)))
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serve_rehearsal(folder)) as url:
        yield {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": API_KEY}


def endings(spurline: Spurline, root: Path) -> dict[str, tuple[str, int, str]]:
    (shown,) = spurline("runs", "show", "last", "--json", cwd=root).objects
    return {agent["ticket"]: (agent["state"], agent["iterations"], agent["reason"]) for agent in shown["agents"]}


def test_what_was_recorded_ends_the_same_way_elsewhere(spurline: Spurline, make_repo: MakeRepo, tmp_path: Path) -> None:
    root, made, there = sample(make_repo, *STORIES), tmp_path / "made" / "new", tmp_path / "elsewhere"
    with model(tmp_path / "model", root) as env:
        live = spurline("run", "--record", str(made), "--json", cwd=root, env=env, timeout_s=200)
    assert live.code == 1, live.err
    first = endings(spurline, root)
    assert [(ticket, *first[ticket][:2]) for ticket in STORIES] == [
        ("louder", "verified", 2),
        ("asks", "needs_human", 1),
        ("stubborn", "failed", 2),
    ]
    assert sorted(path.name for path in made.iterdir()) == [f"{ticket}.yaml" for ticket in sorted(STORIES)]

    text = "".join(path.read_text() for path in made.iterdir())
    for secret in (API_KEY, str(tmp_path), live.objects[-1]["run"], env["ANTHROPIC_BASE_URL"]):
        assert secret not in text
    assert re.findall(rf"{KEYED_TRACE}|spurline-key|louder-[0-9a-f]{{6}}", text) == []

    subprocess.run(["git", "clone", "-q", root, there], check=True)
    settings = (root / "spurline.yaml").read_text().replace("kind: anthropic", "kind: rehearsal")
    (there / "spurline.yaml").write_text(settings)
    made.rename(there / "recordings")
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.invalid")
    subprocess.run(["git", *identity, "commit", "-qam", "play"], cwd=there, check=True)
    played = spurline("run", cwd=there, timeout_s=200)
    assert played.code == 1, played.err
    assert endings(spurline, there) == first


def test_an_interrupted_run_keeps_what_had_ended(
    script: Path, spurline: Spurline, make_repo: MakeRepo, tmp_path: Path
) -> None:
    root, made = sample(make_repo, "asks", "sleeps"), tmp_path / "made"
    with model(tmp_path / "model", root) as env:
        process = subprocess.Popen(
            [script, "run", "--record", made, "--json"],
            cwd=root,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            wait_for("bash sleep 1000", process.stdout)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            end(process)
    assert process.returncode == 130, err
    assert f"recorded {made / 'asks.yaml'}" in err
    assert "not recorded, as they came to no end of their own: sleeps" in err
    assert [path.name for path in made.iterdir()] == ["asks.yaml"]
    assert list(read_recordings(made)) == ["asks"]
    assert spurline("baseline", "status", "--json", cwd=root).objects == [{"up": False}]


def test_a_recording_that_is_there_is_kept(spurline: Spurline, make_repo: MakeRepo, tmp_path: Path) -> None:
    root = sample(make_repo, *STORIES)
    (tmp_path / "asks.yaml").write_text("branched by hand")
    done = spurline("run", "--record", str(tmp_path), cwd=root)
    assert done.code == 2
    assert f"there is a recording already: {tmp_path / 'asks.yaml'}" in done.err
    assert "give another folder" in done.err
    assert (tmp_path / "asks.yaml").read_text() == "branched by hand"
    assert "baseline" not in done.err


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_one(spurline: Spurline, make_repo: MakeRepo, tmp_path: Path, place: str) -> None:
    root = sample(make_repo, *STORIES)
    (tmp_path / "file").write_text("")
    done = spurline("run", "--record", str(tmp_path / place), cwd=root)
    assert done.code == 2
    assert f"error: {tmp_path / place} cannot be written: " in done.err
    assert "move the file away" in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_is_not_ours(spurline: Spurline, make_repo: MakeRepo, tmp_path: Path) -> None:
    root, folder = sample(make_repo, *STORIES), tmp_path / "theirs"
    folder.mkdir(mode=0o500)
    done = spurline("run", "--record", str(folder), cwd=root)
    assert done.code == 2
    assert f"{folder} cannot be written: Permission denied" in done.err
