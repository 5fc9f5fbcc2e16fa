"""A developer's first day: baseline, sandboxes and requests by hand, through the installed `spurline`, for real."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sandbox.sample import APP
from tests.conftest import commit_all, git
from tests.e2e.sample import sample_project
from tests.processes import GRACE_S

Spurline = Callable[..., Any]

FORGETFUL = APP.replace('CARRIERS = ("baggage", "traceparent", "tracestate", "x-spurline-key")', "CARRIERS = ()")
FILES = {**sample_project({"a": "b", "b": "c", "c": None, "old": "c"}), "old/app.py": FORGETFUL}


@dataclass(frozen=True, slots=True)
class Shop:
    """The repository, and commits in which `b` says something else, crashes as it starts, or never gets ready."""

    root: Path
    base: str
    changed: str
    crashing: str
    endless: str


def commit(root: Path, path: str, text: str) -> str:
    (root / path).write_text(text)
    return commit_all(root, path)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, spurline: Spurline) -> Iterator[Shop]:
    root = tmp_path_factory.mktemp("hand") / "repo"
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    git(root, "init", "-q", "-b", "main")
    base = commit_all(root, "base")
    changed = commit(root, "b/word.txt", "changed-b \x1b[2J\u202e")
    crashing = commit(root, "b/app.py", "print('brewing')\nraise RuntimeError('no more tea \x1b[31m')\n")
    endless = commit(root, "b/app.py", "import time\nprint('brewing', flush=True)\ntime.sleep(1000)\n")
    git(root, "reset", "-q", "--hard", base)
    up = spurline("baseline", "up", cwd=root)
    assert up.code == 0, up.err
    assert sorted(line.split()[0] for line in up.err.splitlines() if "ready after" in line) == ["a", "b", "c", "old"]
    try:
        yield Shop(root, base, changed, crashing, endless)
    finally:
        spurline("baseline", "down", cwd=root)


@pytest.fixture(scope="module")
def box(shop: Shop, spurline: Spurline) -> dict[str, Any]:
    """A sandbox `one` with b forked from the changed commit."""
    made = spurline("sandbox", "create", "one", "--fork", f"b={shop.changed}", "--show-key", "--json", cwd=shop.root)
    assert made.code == 0, made.err
    (document,) = made.objects
    return dict(document)


def test_up_again_changes_nothing(shop: Shop, spurline: Spurline) -> None:
    again = spurline("baseline", "up", "--json", cwd=shop.root)
    assert again.code == 0
    (document,) = again.objects
    assert (document["up"], document["healthy"], document["version"]) == (True, True, shop.base)
    assert [service["service"] for service in document["services"]] == ["a", "b", "c", "old"]
    assert "runs already" in again.err


def test_up_with_another_commit_is_refused(shop: Shop, spurline: Spurline) -> None:
    other = spurline("baseline", "up", "--rev", shop.changed, cwd=shop.root)
    assert other.code == 3
    assert "spurline baseline down" in other.err


def test_status_tells_health_version_and_urls(shop: Shop, spurline: Spurline) -> None:
    status = spurline("baseline", "status", cwd=shop.root)
    assert status.code == 0
    assert "baseline  healthy" in status.out
    assert shop.base in status.out
    assert "none: stays up until `down`" in status.out
    assert status.out.count("http://127.0.0.1:") == 4


def test_a_sandbox_is_forked_and_answers(shop: Shop, box: dict[str, Any]) -> None:
    (fork,) = box["forks"]
    assert (fork["service"], fork["generation"], fork["commit"], fork["judged"]) == ("b", 1, shop.changed, True)
    assert box["url"] == box["urls"]["a"]
    answer = httpx.get(box["url"], trust_env=False).json()
    assert answer["next"]["word"].startswith("changed-b")
    keyed = httpx.get(box["urls"]["c"], headers={"x-spurline-key": box["key"]}, trust_env=False)
    assert keyed.status_code == 200


def test_the_key_is_masked_unless_asked_for(shop: Shop, spurline: Spurline, box: dict[str, Any]) -> None:
    assert len(box["key"]) == 16
    for arguments in (["show", "one"], ["show", "one", "--json"], ["list", "--json"]):
        shown = spurline("sandbox", *arguments, cwd=shop.root)
        assert shown.code == 0
        assert box["key"] not in shown.out + shown.err
        assert f"{box['key'][:4]}…" in shown.out


@pytest.mark.usefixtures("box")
def test_a_request_shows_who_served_it(shop: Shop, spurline: Spurline) -> None:
    asked = spurline("request", "--sandbox", "one", "GET", "/", cwd=shop.root)
    assert asked.code == 0
    assert asked.out.startswith('{"word": "a"')
    status, *hops = [line for line in asked.err.splitlines() if line]
    assert status == "200 OK"
    assert hops[0].startswith("3 hops, ")
    assert hops[1].startswith("  client → a  baseline  GET /  200  ")
    assert hops[2].startswith("  └ a → b  fork g1  GET /  200  ")
    assert hops[3].startswith("    └ b → c  baseline  GET /  200  ")


@pytest.mark.usefixtures("box")
def test_a_request_as_one_object(shop: Shop, spurline: Spurline) -> None:
    asked = spurline("request", "-S", "one", "GET", "/", "--service", "b", "--json", cwd=shop.root)
    (document,) = asked.objects
    assert (document["status"], document["service"], document["sandbox"]) == (200, "b", "one")
    assert document["body"]["next"] == {"word": "c", "next": None}
    hops = [(hop["depth"], hop["service"], hop["served_by"], hop["generation"]) for hop in document["hops"]]
    assert hops == [(0, "b", "fork", 1), (1, "c", "baseline", None)]
    assert document["hops"][0]["key"].endswith("…")
    assert (document["lost"], document["dropped"]) == ([], 0)


def test_the_baseline_is_asked_without_a_key(shop: Shop, spurline: Spurline) -> None:
    asked = spurline("request", "GET", "/", "--json", cwd=shop.root)
    (document,) = asked.objects
    assert document["body"]["next"]["word"] == "b"
    assert [(hop["depth"], hop["service"], hop["key"]) for hop in document["hops"]] == [
        (0, "a", None),
        (1, "b", None),
        (2, "c", None),
    ]
    assert [found["sandbox"] for found in spurline("sandbox", "list", "--json", cwd=shop.root).objects] in ([], ["one"])


@pytest.mark.usefixtures("box")
def test_the_hop_that_lost_the_key_is_named(shop: Shop, spurline: Spurline) -> None:
    asked = spurline("request", "-S", "one", "GET", "/", "--service", "old", cwd=shop.root)
    assert "warning: the key was lost at old: it called c without it" in asked.err
    assert "└ old → c  baseline" in asked.err
    assert "NO KEY" in asked.err


@pytest.mark.usefixtures("box")
def test_a_failing_request_fails_and_its_exchange_is_kept(shop: Shop, spurline: Spurline) -> None:
    asked = spurline("request", "-S", "one", "GET", "/fail?x=1", "-s", "b", "-i", cwd=shop.root)
    assert asked.code == 1
    assert asked.out.startswith("500 ")
    kept = spurline("sandbox", "exchanges", "one", "--json", cwd=shop.root)
    exchange = next(found for found in kept.objects if found["path"] == "/fail?x=1")
    assert (exchange["caller"], exchange["service"], exchange["status"]) == ("client", "b", 500)
    assert "was asked to fail" in exchange["response"]["body"]
    shown = spurline("sandbox", "exchanges", "one", cwd=shop.root)
    assert "client → b  GET /fail?x=1  500" in shown.out


@pytest.mark.usefixtures("box")
def test_a_request_that_takes_too_long(shop: Shop, spurline: Spurline) -> None:
    asked = spurline("request", "-S", "one", "GET", "/slow/5000", "-s", "c", "--timeout", "200ms", cwd=shop.root)
    assert asked.code == 3
    assert "error: c did not answer within 0.2 s" in asked.err


@pytest.mark.usefixtures("box")
def test_logs_of_forks_and_of_the_baseline(shop: Shop, spurline: Spurline) -> None:
    logs = spurline("sandbox", "logs", "one", cwd=shop.root)
    assert "starting changed-b" in logs.out
    assert "\x1b" not in logs.out
    assert "\u202e" not in logs.out
    baseline = spurline("sandbox", "logs", "one", "--service", "c", "--json", cwd=shop.root)
    assert any(line["line"] == "starting c" for line in baseline.objects)
    assert "these are the baseline's lines" in baseline.err
    assert spurline("sandbox", "logs", "one", "--service", "nope", cwd=shop.root).code == 2


def test_an_update_moves_the_fork_and_a_folder_is_never_judged(shop: Shop, spurline: Spurline) -> None:
    spurline("sandbox", "create", "two", "--fork", f"b={shop.changed}", cwd=shop.root)
    moved = spurline("sandbox", "update", "two", "--fork", "b=b", "--fork", "c", "--json", cwd=shop.root)
    assert moved.code == 0, moved.err
    (document,) = moved.objects
    forks = {fork["service"]: (fork["generation"], fork["commit"], fork["judged"]) for fork in document["forks"]}
    assert forks == {"b": (2, None, False), "c": (1, shop.base, True)}
    assert f"warning: b runs {shop.root} as it stands, which is never judged" in moved.err
    deleted = spurline("sandbox", "delete", "two", "never-was", "--json", cwd=shop.root)
    assert deleted.objects == [{"sandbox": "two", "deleted": True}, {"sandbox": "never-was", "deleted": False}]
    gone = spurline("sandbox", "show", "two", cwd=shop.root)
    assert (gone.code, gone.out) == (2, "")
    assert gone.err.startswith("error: the sandbox 'two' is gone: it was deleted\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["sandbox", "show", "nobody"],
        ["sandbox", "update", "nobody", "--fork", "b"],
        ["sandbox", "logs", "nobody"],
        ["sandbox", "exchanges", "nobody", "--follow"],
        ["request", "--sandbox", "nobody", "GET", "/"],
    ],
)
def test_a_sandbox_that_is_not_there_is_a_usage_error(shop: Shop, spurline: Spurline, arguments: list[str]) -> None:
    refused = spurline(*arguments, cwd=shop.root)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.splitlines() == [
        "error: there is no sandbox 'nobody'",
        "hint: `spurline sandbox list` shows those that live",
    ]


@pytest.mark.usefixtures("box")
def test_a_name_that_is_taken_is_a_usage_error(shop: Shop, spurline: Spurline) -> None:
    refused = spurline("sandbox", "create", "one", "--json", cwd=shop.root)
    assert refused.code == 2
    (said,) = refused.objects
    assert (said["error"]["code"], said["error"]["message"]) == ("usage", "the sandbox 'one' exists already")
    assert "`spurline sandbox list`" in said["error"]["hint"]
    assert len(spurline("sandbox", "show", "one", "--json", cwd=shop.root).objects[0]["forks"]) == 1


def test_a_fork_that_crashes_takes_the_sandbox_away_again(shop: Shop, spurline: Spurline) -> None:
    failed = spurline("sandbox", "create", "bad", "--fork", f"b={shop.crashing}", cwd=shop.root)
    assert failed.code == 3
    assert "  | brewing" in failed.err
    assert "RuntimeError: no more tea" in failed.err
    assert "\x1b" not in failed.err
    assert spurline("sandbox", "show", "bad", cwd=shop.root).code == 2
    kept = spurline("sandbox", "create", "bad", "--fork", f"b={shop.crashing}", "--keep", "--json", cwd=shop.root)
    assert kept.objects[-1]["error"]["code"] == "fork"
    assert spurline("sandbox", "show", "bad", "--json", cwd=shop.root).objects[0]["forks"] == []
    spurline("sandbox", "delete", "bad", cwd=shop.root)


def start(script: Path, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [script, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_ctrl_c_while_a_fork_starts_takes_the_sandbox_away_again(shop: Shop, spurline: Spurline, script: Path) -> None:
    process = start(script, "sandbox", "create", "slow", "--fork", f"b={shop.endless}", cwd=shop.root)
    assert process.stderr is not None
    assert next(line for line in process.stderr if "forking b from commit" in line)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert "slow" not in spurline("sandbox", "list", "--json", cwd=shop.root).out


@pytest.mark.usefixtures("box")
def test_logs_can_be_followed_until_ctrl_c(shop: Shop, box: dict[str, Any], script: Path) -> None:
    process = start(script, "sandbox", "logs", "one", "--follow", "--json", cwd=shop.root)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert (first["service"], first["line"].startswith("starting changed-b")) == ("b", True)
    httpx.get(f"{box['urls']['b']}/followed", trust_env=False)
    assert next(line for line in process.stdout if "/followed" in line)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("fork", "message", "hint"),
    [
        ("bb", "there is no service 'bb'", "did you mean 'b'?"),
        ("b=nope", "'nope' is neither a commit nor a folder", "./path"),
        ("b=./nope", "there is no such folder", "a folder or a commit"),
        ("b=c", "it has no folder 'b'", "laid out like the repository"),
    ],
)
def test_forks_that_cannot_be(shop: Shop, spurline: Spurline, fork: str, message: str, hint: str) -> None:
    refused = spurline("sandbox", "create", "no", "--fork", fork, cwd=shop.root)
    assert refused.code == 2
    assert message in refused.err
    assert hint in refused.err


def test_nothing_to_collect(shop: Shop, spurline: Spurline) -> None:
    assert spurline("sandbox", "gc", "--dry-run", "--json", cwd=shop.root).objects == [{"would_remove": []}]
    assert spurline("sandbox", "gc", "--json", cwd=shop.root).objects == [{"removed": []}]


def test_what_gc_would_remove_stays(shop: Shop, spurline: Spurline) -> None:
    stray = shop.root / ".spurline" / "local" / "checkouts" / "stray"
    stray.mkdir()
    would = spurline("sandbox", "gc", "--dry-run", cwd=shop.root)
    assert (would.code, would.out, would.err) == (0, f"{stray}\n", "would remove 1\n")
    assert spurline("sandbox", "gc", "--dry-run", "--json", cwd=shop.root).objects == [{"would_remove": [str(stray)]}]
    assert stray.is_dir()
    did = spurline("sandbox", "gc", cwd=shop.root)
    assert (did.code, did.out, did.err) == (0, f"{stray}\n", "removed 1\n")
    assert not stray.exists()


def test_a_service_that_dies_is_seen(shop: Shop, spurline: Spurline) -> None:
    """The last of this module: it breaks the baseline, takes it down and finds nothing left."""
    (before,) = spurline("baseline", "status", "--json", cwd=shop.root).objects
    pids = {service["service"]: service["pid"] for service in before["services"]}
    processes = [psutil.Process(pid) for pid in pids.values()]
    psutil.Process(pids["c"]).kill()
    sick = spurline("baseline", "status", cwd=shop.root)
    assert sick.code == 1
    assert "sick" in sick.out
    down = spurline("baseline", "down", cwd=shop.root)
    assert (down.code, down.out) == (0, "")
    assert "the baseline is down" in down.err
    assert psutil.wait_procs(processes, timeout=GRACE_S)[1] == []
    again = spurline("baseline", "down", "--json", cwd=shop.root)
    assert again.objects == [{"up": False, "was_up": False, "sandboxes_deleted": []}]
    asked = spurline("request", "GET", "/", cwd=shop.root)
    assert asked.code == 3
    assert "the baseline is not up" in asked.err
    assert spurline("sandbox", "gc", "--dry-run", "--json", cwd=shop.root).objects == [{"would_remove": []}]
    assert not list((shop.root / ".spurline" / "local").glob("started.jsonl")), "a dry run starts no keeper"
    assert spurline("sandbox", "gc", cwd=shop.root).code == 0  # there is a keeper again, and no baseline
    for arguments in (["show", "one"], ["create", "one"]):
        named = spurline("sandbox", *arguments, cwd=shop.root)
        assert named.code == 3
        assert "error: the baseline is not up" in named.err
