"""The bundled backlog, worked by the installed command line: every ticket ends as examples/shop/expected.yaml says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

from harness.submission import load_public_key, verify_file
from harness.submission.keys import PUBLIC_NAME
from harness.validation import rejudge
from tests.e2e.conftest import KEYED_TRACE

ROOT = Path(__file__).parents[2]
SPURLINE = Path(sys.executable).with_name("spurline")
EXPECTED: dict[str, dict[str, Any]] = YAML(typ="safe").load(ROOT / "examples/shop/expected.yaml")
VERIFIED = sorted(name for name, expected in EXPECTED.items() if expected["state"] == "verified")

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Demo:
    root: Path
    code: int
    lines: list[dict[str, Any]]
    narration: str
    agents: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    root = tmp_path_factory.mktemp("demo") / "shop"
    done = spurline("demo", "--dir", str(root), "--json", cwd=root.parent)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    shown = json.loads(spurline("runs", "show", "last", "--json", cwd=root).stdout)
    return Demo(root, done.returncode, lines, done.stderr, {agent["ticket"]: agent for agent in shown["agents"]})


def spurline(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SPURLINE, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def test_the_backlog_covers_every_ending(demo: Demo) -> None:
    assert demo.code == 0, demo.narration
    assert set(demo.agents) == set(EXPECTED)
    assert len(EXPECTED) >= 12


@pytest.mark.parametrize("ticket", sorted(EXPECTED))
def test_each_ticket_ends_as_its_story_says(demo: Demo, ticket: str) -> None:
    agent, expected = demo.agents[ticket], EXPECTED[ticket]
    assert (agent["state"], agent["iterations"]) == (expected["state"], expected["iterations"]), agent["reason"]
    assert expected.get("reason", "") in agent["reason"]


def test_the_last_line_counts_the_endings(demo: Demo) -> None:
    last = demo.lines[-1]
    assert last["event"] == "run.finished"
    counts = {state: sum(e["state"] == state for e in EXPECTED.values()) for state in last["tickets"]}
    assert last["tickets"] == counts
    assert last["cost_usd"] > 0


@pytest.mark.parametrize("ticket", VERIFIED)
def test_a_verified_commit_is_on_its_branch_with_a_record_that_holds(demo: Demo, ticket: str) -> None:
    agent = demo.agents[ticket]
    assert git(demo.root, "rev-parse", agent["branch"]) == agent["commit"]
    keys = [load_public_key(demo.root / ".spurline" / "keys" / PUBLIC_NAME)]
    found = verify_file(record_of(demo, ticket), keys, rejudge)
    assert (found.verified, found.verdict["commit"]) == (True, agent["commit"]), found.reason


def record_of(demo: Demo, ticket: str) -> Path:
    run: str = demo.lines[-1]["run"]
    return demo.root / ".spurline" / "runs" / run / ticket / "record.json"


def test_the_command_holds_a_record_against_its_commit_and_an_altered_one_does_not_hold(demo: Demo) -> None:
    record, commit = record_of(demo, VERIFIED[0]), demo.agents[VERIFIED[0]]["commit"]
    verified = spurline("verify", str(record), "--commit", commit, cwd=demo.root)
    assert verified.returncode == 0, verified.stderr
    altered = demo.root / "altered.json"
    altered.write_bytes(record.read_bytes().replace(b"payload", b"Payload", 1))
    assert spurline("verify", str(altered), cwd=demo.root).returncode == 1


def test_only_verified_tickets_have_a_submission(demo: Demo) -> None:
    submitted = {ticket for ticket, agent in demo.agents.items() if agent["submission"]}
    assert submitted == set(VERIFIED)


def test_the_evidence_of_the_seed_case_is_the_neighbours_own_answer(demo: Demo) -> None:
    transcript = next((demo.root / ".spurline" / "transcripts").rglob("users-v2.jsonl")).read_text()
    assert "400" in transcript
    assert "payments" in transcript


def test_nothing_is_left_running(demo: Demo) -> None:
    place = str(demo.root)
    left = [
        process.info
        for process in psutil.process_iter(["pid", "cmdline", "cwd"])
        if process.pid != os.getpid()
        and (place in " ".join(process.info["cmdline"] or ()) or (process.info["cwd"] or "").startswith(place))
    ]
    assert left == []


def test_the_last_hint_names_a_program_that_is_there(demo: Demo) -> None:
    program = demo.narration.splitlines()[-1].partition(" && ")[2].split()[0]
    assert shutil.which(program) is not None, program


def test_no_worktree_or_checkout_is_left(demo: Demo) -> None:
    assert git(demo.root, "worktree", "list").count("\n") == 0
    state = demo.root / ".spurline"
    assert [path for path in (state / "worktrees").rglob("*") if path.is_file()] == []
    assert not list((state / "local").glob("checkouts/*"))
    assert not list((state / "judge").glob("*"))


def test_no_key_is_in_the_stream_or_the_transcripts(demo: Demo) -> None:
    text = json.dumps(demo.lines) + demo.narration
    for path in (demo.root / ".spurline" / "transcripts").rglob("*.jsonl"):
        text += path.read_text()
    assert re.findall(rf"{KEYED_TRACE}|spurline-key=[0-9a-f]{{16}}", text) == []


def test_the_report_says_how_each_ticket_ended(demo: Demo) -> None:
    report = json.loads(spurline("runs", "report", "--json", cwd=demo.root).stdout)
    assert {agent["ticket"]: agent["state"] for agent in report["agents"]} == {
        ticket: expected["state"] for ticket, expected in EXPECTED.items()
    }
    assert all(agent["proof"]["forks"] for agent in report["agents"] if agent["state"] == "verified")
    assert report["cost_usd"] == pytest.approx(demo.lines[-1]["cost_usd"])
    page = spurline("runs", "report", "--format", "html", cwd=demo.root).stdout
    assert [ticket for ticket in EXPECTED if f">{ticket}<" not in page] == []
