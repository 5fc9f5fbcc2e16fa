"""`spurline doctor`: what is missing in a project, and which services of a real baseline forward the key."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

MakeRepo = Callable[[Mapping[str, str]], Path]
Spurline = Callable[..., Any]

# One program for all services: calls what NEXT names, with the headers of the request that FORWARD names.
PROGRAM: Final = """\
import os, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/healthz":
            kept = {n: self.headers[n] for n in os.environ.get("FORWARD", "").split(",") if n and self.headers[n]}
            for url in filter(None, os.environ.get("NEXT", "").split(",")):
                urllib.request.urlopen(urllib.request.Request(url + self.path, headers=kept)).read()
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
SETTINGS: Final = """\
project: chain
baseline:
  entry: gateway
  services:
    gateway:
      command: [python3, app.py]
      env: {NEXT: "${url:tracer},${url:dropper}", FORWARD: "traceparent,baggage"}
      ready: {http: /healthz}
    tracer:
      command: [python3, app.py]
      env: {NEXT: "${url:leaf}", FORWARD: traceparent}
      ready: {http: /healthz}
    dropper:
      command: [python3, app.py]
      env: {NEXT: "${url:leaf}"}
      ready: {http: /healthz}
    leaf: {command: [python3, app.py], ready: {http: /healthz}}
agent: {kind: rehearsal}
"""
TICKET: Final = "---\nid: one\ntitle: t\nservices: [gateway]\n---\n"
FILES: Final = {
    "app.py": PROGRAM,
    "spurline.yaml": SETTINGS,
    "tickets/one.md": TICKET,
    "recordings/one.yaml": "ticket: one\n",
}


def subjects(ran: Any) -> dict[str, list[dict[str, str]]]:
    """The findings by their subject."""
    found: dict[str, list[dict[str, str]]] = {}
    for one in ran.objects:
        found.setdefault(one["subject"], []).append(one)
    return found


@pytest.fixture
def chain(make_repo: MakeRepo, spurline: Spurline) -> Iterator[Path]:
    root = make_repo(FILES)
    yield root
    spurline("baseline", "down", cwd=root)


def test_finds_who_forwards_what_in_a_running_system(chain: Path, spurline: Spurline) -> None:
    ran = spurline("doctor", "--start", "--json", cwd=chain)
    assert ran.code == 0, ran.err + ran.out
    found = subjects(ran)
    carriers = {name.removeprefix("carriers of "): said[0] for name, said in found.items() if "carriers" in name}
    assert {name: said["level"] for name, said in carriers.items()} == {
        "gateway": "ok",
        "tracer": "ok",
        "dropper": "warning",
        "leaf": "ok",
    }
    assert "baggage" in carriers["gateway"]["text"]
    assert "only traceparent" in carriers["tracer"]["text"]
    assert "lose the key (seen on the way to leaf)" in carriers["dropper"]["text"]
    assert "baseline.carriers" in carriers["dropper"]["way_out"]
    # It was started for the probe only.
    assert spurline("baseline", "status", "--json", cwd=chain).objects == [{"up": False}]


def test_says_how_far_the_baseline_is_and_needs_no_key_of_the_model_for_it(
    make_repo: MakeRepo, spurline: Spurline
) -> None:
    alone = """\
project: alone
baseline: {entry: leaf, services: {leaf: {command: [python3, app.py], ready: {http: /healthz}}}}
"""
    ticket = TICKET.replace("gateway", "leaf")
    root = make_repo({"app.py": PROGRAM, "spurline.yaml": alone, "tickets/one.md": ticket})
    ran = spurline("doctor", "--start", "--json", cwd=root)
    found = subjects(ran)
    assert (ran.code, found["agent"][0]["level"]) == (3, "problem")
    assert found["baseline"][0]["level"] == "ok", ran.out
    # Who waits for it hears of it.
    assert "starting the baseline from commit" in ran.err
    assert "leaf ready after" in ran.err


def test_leaves_a_baseline_that_was_up_as_it_was(chain: Path, spurline: Spurline) -> None:
    assert spurline("baseline", "up", cwd=chain).code == 0
    ran = spurline("doctor", "--request", "POST /x {}", cwd=chain)
    assert ran.code == 0, ran.err + ran.out
    assert "2 requests were sent" in ran.out
    assert spurline("baseline", "status", cwd=chain).code == 0
    assert spurline("sandbox", "list", "--json", cwd=chain).out.strip() in ("", "[]")
    refused = spurline("doctor", "--request", "fetch x", cwd=chain)
    assert refused.code == 2
    assert "is no request" in refused.err


def test_says_so_where_nothing_is_up(chain: Path, spurline: Spurline) -> None:
    ran = spurline("doctor", "--json", cwd=chain)
    assert ran.code == 0
    assert subjects(ran)["baseline"][0]["level"] == "warning"
    assert "--start" in subjects(ran)["baseline"][0]["way_out"]


def test_goes_on_after_a_problem_and_ends_with_2(make_repo: MakeRepo, spurline: Spurline) -> None:
    broken = SETTINGS.replace("leaf: {command: [python3, app.py]", "leaf: {command: [no-such-program]")
    root = make_repo({**FILES, "spurline.yaml": broken, "tickets/two.md": "no front matter\n"})
    (root / "spurline.yaml").write_text(broken + "# changed since\n")
    ran = spurline("doctor", "--start", "--json", cwd=root)
    assert ran.code == 2
    found = subjects(ran)
    assert "no-such-program" in found["service leaf"][0]["text"]
    assert "is not as it is in the commit" in found["repository"][1]["text"]
    assert "two.md" in found["tickets"][0]["text"]
    assert "mend the problems above first" in found["baseline"][0]["way_out"]


def test_a_file_that_cannot_be_used_is_a_finding_with_its_line(make_repo: MakeRepo, spurline: Spurline) -> None:
    root = make_repo({"spurline.yaml": SETTINGS.replace("entry: gateway", "entri: gateway")})
    ran = spurline("doctor", cwd=root)
    assert ran.code == 2
    assert "spurline.yaml:3" in ran.out
    assert "did you mean 'entry'?" in ran.out
    assert "envoy:" in ran.out


def test_names_the_folders_that_a_checkout_leaves_empty(chain: Path, spurline: Spurline) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.invalid")
        subprocess.run(["git", *identity, *arguments], cwd=chain, check=True, capture_output=True)

    git("update-index", "--add", "--cacheinfo", f"160000,{'a' * 40},libs/their code")
    git("commit", "-qm", "a submodule")
    said = spurline("doctor", "--json", cwd=chain).objects
    assert [one["level"] for one in said if "libs/their code is a submodule" in one["text"]] == ["warning"], said


def test_a_service_that_does_not_start_is_the_environments(make_repo: MakeRepo, spurline: Spurline) -> None:
    root = make_repo({**FILES, "app.py": "raise SystemExit('no database')\n"})
    ran = spurline("doctor", "--start", cwd=root)
    assert ran.code == 3, ran.out + ran.err
    assert "problem  baseline:" in ran.out


def test_without_any_project_it_points_to_init(tmp_path: Path, spurline: Spurline) -> None:
    ran = spurline("doctor", cwd=tmp_path)
    assert ran.code == 2
    assert "spurline init" in ran.err
