"""Bad input through the installed `spurline`: one clear error with its place and the way out; nothing starts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Spurline = Callable[..., Any]
MakeRepo = Callable[[Mapping[str, str]], Path]

SETTINGS = """\
project: tiny
baseline:
  entry: web
  services:
    web:
      command: ["python3", "-m", "http.server", "${port}"]
      env: {OTHER: "${url:api}"}
    api: {command: ["python3", "-m", "http.server", "${port}"]}
"""


def ticket(id: str, *lines: str) -> str:
    return "\n".join(["---", f"id: {id}", "title: Make it so", *lines, "---", "Please.", ""])


@pytest.mark.parametrize(
    ("old", "new", "place", "hint"),
    [
        ("entry: web", "entri: web", "spurline.yaml:3 at 'baseline.entri': unknown key", "did you mean 'entry'?"),
        ("command:", "comand:", "spurline.yaml:6 at 'baseline.services.web.comand'", "did you mean 'command'?"),
        ("${url:api}", "${url:nope}", "${url:nope} names no service", "services: web, api"),
        ("entry: web", "entry: nope", "spurline.yaml:3 at 'baseline.entry': there is no service 'nope'", "web, api"),
        ("project: tiny", "project: [", "spurline.yaml:", "mend the YAML at this line"),
        ("project: tiny", "project: ../tiny", "spurline.yaml:1 at 'project'", ""),
        (SETTINGS, "- a list\n", "spurline.yaml:1: expected a mapping of keys and values, found a list", ""),
        (SETTINGS, "", "spurline.yaml:1: expected a mapping of keys and values, found nothing", ""),
    ],
)
def test_settings(spurline: Spurline, make_repo: MakeRepo, old: str, new: str, place: str, hint: str) -> None:
    root = make_repo({"spurline.yaml": SETTINGS.replace(old, new, 1), "other": ""})
    done = spurline("baseline", "up", cwd=root)
    assert (done.code, done.out) == (2, "")
    assert place in done.err
    assert hint in done.err
    assert not (root / ".spurline").exists()


@pytest.mark.parametrize(
    ("env", "said", "hint"),
    [
        ({}, "there is no key for the model's API", "set ANTHROPIC_API_KEY"),
        (
            {"ANTHROPIC_API_KEY": "wrong"},
            "refused the call (401): invalid x-api-key",
            "set ANTHROPIC_API_KEY to a valid",
        ),
    ],
)
def test_a_model_that_would_refuse_every_call(
    spurline: Spurline, make_repo: MakeRepo, api: str, env: dict[str, str], said: str, hint: str
) -> None:
    system = SETTINGS.replace('      env: {OTHER: "${url:api}"}\n', "")
    root = make_repo({"spurline.yaml": system, "tickets/1.md": ticket("one")})
    done = spurline("run", cwd=root, env={**env, "ANTHROPIC_BASE_URL": api})
    assert (done.code, done.out) == (3, "")
    assert said in done.err
    assert hint in done.err
    assert "web" not in done.err, "nothing is started"
    assert spurline("runs", "list", "--json", cwd=root).objects == []


@pytest.fixture
def api() -> Iterator[str]:
    """An API that knows no key."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            error = {"type": "authentication_error", "message": "invalid x-api-key"}
            body = json.dumps({"type": "error", "error": error}).encode()
            self.send_response(401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_no_settings_anywhere(spurline: Spurline, tmp_path: Path) -> None:
    done = spurline("baseline", "up", cwd=tmp_path)
    assert done.code == 2
    assert done.err.splitlines() == [
        f"error: there is no spurline.yaml here or above {tmp_path}",
        "hint: `spurline init` writes one for this repository",
    ]


def test_lint_shows_everything_in_all_files(spurline: Spurline, make_repo: MakeRepo) -> None:
    root = make_repo(
        {
            "spurline.yaml": SETTINGS,
            "tickets/1.md": ticket("one", "prioriti: 3", "preserve: perhaps"),
            "tickets/2.md": ticket("../two"),
            "tickets/3.md": ticket("three"),
            "tickets/4.md": ticket("Three"),
            "tickets/5.md": "---\n- a\n- list\n---\n",
            "tickets/6.md": "no front matter\n",
            "tickets/7.md": ticket("seven", "services: [wbe]"),
            "tickets/8.md": ticket("eight", "labels: ["),
            "tickets/9.md": ticket("nine", "depends: [nine]"),
        }
    )
    done = spurline("tickets", "lint", "--json", cwd=root)
    assert done.code == 2
    found = {(problem["file"], problem["line"], problem["key"]) for problem in done.objects}
    assert found == {
        ("tickets/1.md", 4, "prioriti"),
        ("tickets/1.md", 5, "preserve"),
        ("tickets/2.md", 2, "id"),
        ("tickets/4.md", None, "id"),
        ("tickets/5.md", 2, ""),
        ("tickets/6.md", 1, ""),
        ("tickets/7.md", None, "services"),
        ("tickets/8.md", 5, ""),
    }
    hints = {problem["key"]: problem["hint"] for problem in done.objects}
    assert hints["prioriti"] == "did you mean 'priority'?"
    assert hints["services"] == "services: web, api"
    assert done.err == "9 ticket files, 8 problems\n"
    people = spurline("tickets", "lint", cwd=root)
    assert people.code == 2
    assert "tickets/1.md:4 at 'prioriti': unknown key" in people.out
    assert "tickets/3.md" in people.out, "names the file that has the id already"


def test_lint_of_good_tickets(spurline: Spurline, make_repo: MakeRepo) -> None:
    root = make_repo({"spurline.yaml": SETTINGS, "tickets/1.md": ticket("one"), "tickets/2.md": ticket("two")})
    done = spurline("tickets", "lint", cwd=root)
    assert (done.code, done.out, done.err) == (0, "", "2 ticket files, no problems\n")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tickets/a.md": ticket("a"), "tickets/b.md": ticket("A")}, "the id 'A' is taken by"),
        ({"tickets/a.md": ticket("../../etc")}, "tickets/a.md:2 at 'id'"),
        ({"tickets/a.md": "---\n- 1\n---\n"}, "tickets/a.md:2: expected a mapping of keys and values, found a list"),
        ({"tickets/a.md": ticket("a", "depends: [b]")}, "depends on 'b', which is no ticket"),
    ],
)
def test_tickets_that_cannot_be_used(
    spurline: Spurline, make_repo: MakeRepo, files: Mapping[str, str], message: str
) -> None:
    done = spurline("tickets", "list", cwd=make_repo({"spurline.yaml": SETTINGS, **files}))
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_not_a_git_repository(spurline: Spurline, tmp_path: Path) -> None:
    (tmp_path / "spurline.yaml").write_text(SETTINGS)
    done = spurline("baseline", "up", cwd=tmp_path)
    assert done.code == 2
    assert "is not a git repository" in done.err
    assert "hint: run `git init` there" in done.err
    assert not (tmp_path / ".spurline").exists()


def test_a_bare_repository(spurline: Spurline, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "bare"], check=True)
    (tmp_path / "bare" / "spurline.yaml").write_text(SETTINGS)
    done = spurline("-C", "bare", "baseline", "up", cwd=tmp_path)
    assert done.code == 2
    assert "is a bare repository" in done.err
    assert "git clone" in done.err


def test_no_commit_yet(spurline: Spurline, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "spurline.yaml").write_text(SETTINGS)
    done = spurline("baseline", "up", cwd=tmp_path)
    assert done.code == 2
    assert "has no commit yet" in done.err
    assert "git commit" in done.err


def test_a_commit_that_is_none(spurline: Spurline, make_repo: MakeRepo) -> None:
    done = spurline("baseline", "up", "--rev", "nope", cwd=make_repo({"spurline.yaml": SETTINGS}))
    assert done.code == 2
    assert "'nope' is no commit" in done.err


def test_a_file_in_the_place_of_the_state(spurline: Spurline, make_repo: MakeRepo) -> None:
    root = make_repo({"spurline.yaml": SETTINGS})
    (root / ".spurline").write_text("")
    done = spurline("baseline", "up", cwd=root)
    assert done.code == 2
    assert f"{root / '.spurline'} cannot be written" in done.err
    assert "must be a folder: move the file away" in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_no_permission_on_the_state(spurline: Spurline, make_repo: MakeRepo) -> None:
    root = make_repo({"spurline.yaml": SETTINGS})
    (root / ".spurline").mkdir(mode=0o500)
    done = spurline("baseline", "up", cwd=root)
    assert done.code == 2
    assert "cannot be written: Permission denied" in done.err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{command: ["no-such-program-here"]}', "no-such-program-here"),
        ('{command: ["sh", "-c", "echo brewing; echo no more tea >&2; exit 3"]}', "no more tea"),
        (
            '{command: ["sh", "-c", "echo still brewing; exec sleep 60"], ready: {tcp: true, timeout: 1s}}',
            "still brewing",
        ),
        ('{url: "http://127.0.0.1:1", ready: {tcp: true, timeout: 1s}}', "http://127.0.0.1:1"),
    ],
)
def test_a_service_that_never_gets_ready(spurline: Spurline, make_repo: MakeRepo, settings: str, message: str) -> None:
    root = make_repo({"spurline.yaml": f"project: t\nbaseline: {{entry: tea, services: {{tea: {settings}}}}}\n"})
    done = spurline("baseline", "up", cwd=root)
    assert done.code == 3
    assert "'tea'" in done.err
    assert message in done.err
    assert "Traceback" not in done.err
    status = spurline("baseline", "status", "--json", cwd=root)
    assert (status.code, status.objects) == (1, [{"up": False}])
    spurline("baseline", "down", cwd=root)


def test_a_port_in_use(spurline: Spurline, make_repo: MakeRepo) -> None:
    """A service with a port of its own, which somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = f'["python3", "-m", "http.server", "--bind", "127.0.0.1", "{port}"]'
        root = make_repo(
            {"spurline.yaml": f"project: t\nbaseline: {{entry: a, services: {{a: {{command: {command}}}}}}}\n"}
        )
        done = spurline("baseline", "up", cwd=root)
    assert done.code == 3
    assert "Address already in use" in done.err
    spurline("baseline", "down", cwd=root)


def test_settings_that_are_not_committed_are_used_and_said(spurline: Spurline, make_repo: MakeRepo) -> None:
    root = make_repo({"spurline.yaml": SETTINGS})
    (root / "spurline.yaml").write_text(SETTINGS + "# more\n")
    done = spurline("sandbox", "create", "x", cwd=root)
    assert done.code == 3
    assert "warning: spurline.yaml is not committed as it stands" in done.err
    assert "error: the baseline is not up" in done.err


def test_git_is_missing(make_repo: MakeRepo, script: Path, tmp_path: Path) -> None:
    root = make_repo({"spurline.yaml": SETTINGS})
    assert shutil.which("git", path=str(tmp_path)) is None
    done = subprocess.run(
        [script, "baseline", "up"],
        cwd=root,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "error: git is not installed" in done.stderr
