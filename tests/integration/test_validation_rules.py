"""The seven rules of 'verified', each broken for real: services, router, forks and checks all run.

In every test a validator that forgot the rule would say 'verified'.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from graphs.ports import Verdict, Work
from harness.project import read_project
from harness.repository import Repository
from harness.validation import LoopValidator, judge_commit, rejudge
from sandbox.driver import Source
from sandbox.local.driver import LocalDriver
from tasks.ticket import CommandCheck, HttpCheck, Ticket, TicketChecks

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER = """
import http.client, json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CARRIERS = ("baggage", "traceparent", "tracestate", "x-spurline-key")

def serve(answer, forward=True):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = (200, {}) if self.path == "/healthz" else answer(self.path, self.call)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def call(self, service, path):
            carried = {n: self.headers[n] for n in CARRIERS if n in self.headers} if forward else {}
            connection = http.client.HTTPConnection(os.environ[service.upper()])
            connection.request("GET", path, headers=carried)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64
        daemon_threads = True

    Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
HEAD = "import sys\nsys.path.insert(0, '../lib')\nfrom server import serve\n"
USERS = HEAD + (
    "LEFT = []\n"
    "def answer(path, call):\n"
    "    if path == '/leave':\n"
    "        LEFT.append(path)\n"
    "    return 200, {'id': 1, 'name': 'ann', 'left': len(LEFT)}\n"
    "serve(answer)\n"
)
GATEWAY = HEAD + (
    "def answer(path, call):\n"
    "    _, service, rest = path.split('/', 2)\n"
    "    status, body = call(service, '/' + rest)\n"
    "    return (200, {'answer': body}) if status == 200 else (502, {'error': 'users said', 'body': body})\n"
    "serve(answer)\n"
)
LEGACY = HEAD + "serve(lambda path, call: call('users', path), forward=False)\n"
PRICING = HEAD + "serve(lambda path, call: (200, {'price': 5}))\n"
TESTS = """
import json, os, urllib.request

def test_users_have_names():
    with urllib.request.urlopen(os.environ["SPURLINE_URL"] + "/users/1") as response:
        assert json.load(response)["answer"]["name"] == "ann"
"""
# A runner of a few lines, since pytest takes a second to start. It writes the report that every runner can write.
RUNNER = """
import os, sys, test_users
try:
    test_users.test_users_have_names()
except Exception as error:
    failure = f'<failure message="{type(error).__name__}: {error}">no name here</failure>'
    case = f'<testcase classname="test_users" name="test_users_have_names">{failure}</testcase>'
    open(os.environ["SPURLINE_JUNIT"], "w").write(f"<testsuite>{case}</testsuite>")
    sys.exit(1)
"""
PYTEST = f"PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 {sys.executable} -m pytest -q"
HTTP_CHECKS = """
- {name: price, request: {path: /pricing/tea}, expect: {status: 200, json: {answer: {price: 5}}}}
- {name: known bug, request: {path: /users/nobody}, expect: {status: 404}}
"""


def service(name: str, *calls: str) -> dict[str, Any]:
    env = {call.upper(): f"${{host:{call}}}:${{port:{call}}}" for call in calls}
    return {
        "cwd": name,
        "shared": ["lib"],
        "command": [sys.executable, "app.py"],
        "env": env,
        "ready": {"http": "/healthz"},
    }


SETTINGS = {
    "project": "tiny",
    "baseline": {
        "entry": "gateway",
        "services": {
            "gateway": service("gateway", "users", "legacy", "pricing"),
            # It may reach what judges: that this is found out must not hang on the cage.
            "users": {**service("users"), "confine": False},
            "legacy": service("legacy", "users"),
            "pricing": service("pricing"),
        },
    },
    "tickets": {"files": "tickets/*.md"},
    "checks": {
        "static": [f"{sys.executable} -m py_compile users/app.py"],
        "command": [{"name": "suite", "run": f"{sys.executable} tests/suite.py", "timeout": "60s"}],
        "http": "checks/*.yaml",
    },
}
FILES = {
    "spurline.yaml": json.dumps(SETTINGS),
    ".gitignore": ".spurline/\n__pycache__/\n",
    "lib/server.py": SERVER,
    "users/app.py": USERS,
    "gateway/app.py": GATEWAY,
    "legacy/app.py": LEGACY,
    "pricing/app.py": PRICING,
    "tests/test_users.py": TESTS,
    "tests/suite.py": RUNNER,
    "checks/all.yaml": HTTP_CHECKS,
    "tickets/none.md": "---\nid: none\ntitle: None\n---\n",
}


def git(root: Path, *args: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.invalid")
    return subprocess.run(
        ["git", *identity, *args], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


@dataclass
class Shelf:
    """Both stores, in memory."""

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    results: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    async def save(self, run: str, ticket: str, document: dict[str, Any]) -> str:
        name = f"{run}-{ticket}-{len(self.documents)}"
        self.documents[name] = json.loads(json.dumps(document))
        return name

    async def load(self, name: str) -> dict[str, Any]:
        return self.documents[name]

    async def get(self, version: str, digest: str) -> dict[str, Any] | None:
        return self.results.get((version, digest))

    async def put(self, version: str, digest: str, document: dict[str, Any]) -> None:
        self.results[version, digest] = document


@dataclass
class Stage:
    """A repository, its baseline up, and a validator over it."""

    repository: Repository
    driver: LocalDriver
    validator: LoopValidator
    shelf: Shelf
    base: str
    number: int = 0

    def commit(self, files: Mapping[str, str | None]) -> str:
        """A commit on the base with these files written, or deleted where None."""
        root = self.repository.root
        git(root, "checkout", "-q", self.base)
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if text is None else path.write_text(text)
        git(root, "add", "-A")
        git(root, "commit", "-q", "--allow-empty", "-m", "change")
        commit = git(root, "rev-parse", "HEAD")
        git(root, "checkout", "-q", self.base)
        return commit

    def work(self, ticket: Ticket) -> Work:
        self.number += 1
        return Work("run", ticket, "branch", self.base, "nowhere", f"box-{self.number}")

    async def judge(self, ticket: Ticket, files: Mapping[str, str | None]) -> tuple[Verdict, dict[str, Any]]:
        """The verdict on a change, as the loop comes to it, and its document."""
        work, commit = self.work(ticket), self.commit(files)
        try:
            verdict = await self.validator.instantiate(work, commit)
            verdict = verdict or await self.validator.validate(work, commit, 1)
        finally:
            await self.validator.release(work)
        return verdict, await self.read(verdict)

    async def read(self, verdict: Verdict) -> dict[str, Any]:
        document = await self.shelf.load(verdict.id)
        if verdict.conclusion == "verified":
            assert rejudge(document) == "verified"
        return document


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny") / "repo"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "base")
    return root


@asynccontextmanager
async def staged(root: Path) -> AsyncIterator[Stage]:
    """The repository's head as the baseline, up, and a validator over it; nothing of what judged is left."""
    repository, shelf = await Repository.open(root), Shelf()
    base = await repository.head()
    state = root / ".spurline"
    async with (
        LocalDriver(root, state / "local") as driver,
        LoopValidator(driver, repository, state, shelf, shelf) as validator,
    ):
        await driver.up(read_project(root).system(), base)
        yield Stage(repository, driver, validator, shelf, base)
    assert not list((state / "judge").iterdir())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(root: Path) -> AsyncIterator[Stage]:
    async with staged(root) as one:
        yield one


def http(path: str, expect: dict[str, Any], name: str = "own") -> HttpCheck:
    return HttpCheck.model_validate({"name": name, "request": {"path": path}, "expect": expect})


def ticket(*checks: HttpCheck | CommandCheck, services: tuple[str, ...] = ("users",), **more: Any) -> Ticket:
    found = TicketChecks(
        http=tuple(check for check in checks if isinstance(check, HttpCheck)),
        command=tuple(check for check in checks if isinstance(check, CommandCheck)),
    )
    return Ticket(id="t", title="T", services=services, checks=found, **more)


def users(body: str, extra: str = "") -> str:
    return f"{HEAD}{extra}\ndef answer(path, call):\n{body}\nserve(answer)\n"


AGE = http("/users/1", {"status": 200, "json": {"answer": {"age": 7}}})
WITH_AGE = users("    return 200, {'id': 1, 'name': 'ann', 'age': 7}")


async def test_a_sound_change_is_verified_with_everything_in_its_document(stage: Stage) -> None:
    verdict, document = await stage.judge(ticket(AGE), {"users/app.py": WITH_AGE})
    assert (verdict.conclusion, verdict.feedback) == ("verified", None), verdict
    checks = {check["name"]: check for check in document["checks"]}
    assert (checks["own"]["baseline"], checks["own"]["runs"]) == ("fail", ["pass", "pass"])
    assert (checks["suite"]["baseline"], checks["suite"]["sandbox"]) == ("pass", "pass"), checks
    assert any("'known bug' cannot be judged" in note for note in document["notes"])
    assert document["forks"][0]["hops"] >= 3
    assert document["static"][0]["outcome"] == "pass"
    assert document["planted"] == []


async def test_no_routing_key_is_in_a_document_or_in_evidence(stage: Stage) -> None:
    work, commit = stage.work(ticket(AGE)), stage.commit({"users/app.py": users("    return 500, {}")})
    assert await stage.validator.instantiate(work, commit) is None
    key = (await stage.driver.get(work.sandbox)).key
    verdict = await stage.validator.validate(work, commit, 1)
    await stage.validator.release(work)
    assert verdict.feedback
    assert key not in json.dumps(stage.shelf.documents[verdict.id]) + verdict.feedback
    assert "users (your fork) answered gateway with 500" in verdict.feedback


# 1. The forks ran the commit and nothing else.


async def test_rule_1_another_commit_than_the_forks_run(stage: Stage) -> None:
    work, other = stage.work(ticket(AGE)), stage.commit({"users/app.py": WITH_AGE + "# differs\n"})
    assert await stage.validator.instantiate(work, stage.commit({"users/app.py": WITH_AGE})) is None
    verdict = await stage.validator.validate(work, other, 1)
    await stage.validator.release(work)
    assert (verdict.conclusion, verdict.feedback) == ("unproven", None)
    assert "did not run the commit" in verdict.reason


async def test_rule_1_a_fork_of_a_folder_is_never_judged(stage: Stage, tmp_path: Path) -> None:
    work, commit = stage.work(ticket(AGE)), stage.commit({"users/app.py": WITH_AGE})
    await stage.repository.export(commit, tmp_path / "tree")
    await stage.driver.create(work.sandbox, ttl_s=60)
    await stage.driver.fork(work.sandbox, {"users": Source(folder=tmp_path / "tree")})
    verdict = await stage.validator.validate(work, commit, 1)
    await stage.validator.release(work)
    assert verdict.conclusion == "unproven"


async def test_rule_1_a_fork_left_from_an_earlier_iteration_is_updated_too(stage: Stage) -> None:
    work = stage.work(ticket(AGE, services=("users", "pricing")))
    first = stage.commit({"users/app.py": WITH_AGE, "pricing/app.py": PRICING + "# touched\n"})
    second = stage.commit({"users/app.py": WITH_AGE})
    assert await stage.validator.instantiate(work, first) is None
    assert await stage.validator.instantiate(work, second) is None
    sandbox = await stage.driver.get(work.sandbox)
    verdict = await stage.validator.validate(work, second, 2)
    await stage.validator.release(work)
    assert {name: fork.commit for name, fork in sandbox.forks.items()} == {"users": second, "pricing": second}
    assert verdict.conclusion == "verified", verdict
    assert "pricing" not in {one["service"] for one in (await stage.read(verdict))["planted"]}


async def test_rule_1_a_symlink_that_leads_to_what_no_commit_holds(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "more.py").write_text("AGE = 7\n")
    link = stage.repository.root / "users/more.py"
    git(stage.repository.root, "checkout", "-q", stage.base)
    link.symlink_to(tmp_path / "more.py")
    # The fork of users is not confined: it would find what lies there.
    app = users("    return 200, {'id': 1, 'name': 'ann', 'age': AGE}", "from more import AGE\n")
    verdict, _ = await stage.judge(ticket(AGE), {"users/app.py": app})
    assert verdict.conclusion == "unproven", verdict
    assert "users/more.py lead out of the commit" in verdict.reason


# 2. Nothing in the change can touch what judges it.


async def test_rule_2_files_planted_in_the_change_are_not_there_when_it_is_judged(stage: Stage) -> None:
    passing = "import pytest\n@pytest.hookimpl\ndef pytest_collection_modifyitems(items):\n    items.clear()\n"
    own = CommandCheck(name="own", run=f"{PYTEST} tests && curl -s $SPURLINE_URL/users/1 | grep age")
    planted = {
        "users/app.py": users("    return 200, {}"),
        "conftest.py": passing + "def pytest_sessionfinish(session):\n    session.exitstatus = 0\n",
        "sitecustomize.py": "import os\nos._exit(0)\n",
        "pytest.ini": "[pytest]\naddopts = --co\n",
        "users/conftest.py": passing,
    }
    verdict, document = await stage.judge(ticket(own, services=()), planted)
    assert verdict.conclusion == "failed"
    checks = {check["name"]: check for check in document["checks"]}
    assert (checks["own"]["sandbox"], checks["suite"]["sandbox"]) == ("fail", "fail")
    assert "test_users_have_names" in (verdict.feedback or "")


async def test_rule_2_a_fork_that_rewrites_the_judging_tests_is_found_out(stage: Stage) -> None:
    rewrite = (
        "import pathlib\n"
        "state = next(p for p in pathlib.Path.cwd().parents if p.name == '.spurline')\n"
        "for path in (state / 'judge').glob('*/tree/tests/test_users.py'):\n"
        "    path.write_text('def test_users_have_names():\\n    pass\\n')\n"
    )
    await stage.judge(ticket(AGE), {"users/app.py": WITH_AGE})
    broken = users("    return 200, {'id': 1, 'age': 7}", rewrite)
    verdict, document = await stage.judge(ticket(AGE), {"users/app.py": broken})
    assert verdict.conclusion != "verified"
    assert document["judges_intact"] is False
    verdict, _ = await stage.judge(ticket(AGE), {"users/app.py": WITH_AGE})
    assert verdict.conclusion == "verified"


@pytest.mark.parametrize("path", ["tests/test_users.py", "spurline.yaml", "checks/all.yaml", "tickets/none.md"])
@pytest.mark.parametrize("text", ["changed", None])
async def test_rule_2_what_judges_may_not_be_altered(stage: Stage, path: str, text: str | None) -> None:
    verdict, _ = await stage.judge(ticket(AGE), {"users/app.py": WITH_AGE, path: text})
    assert (verdict.conclusion, verdict.feedback) == ("needs_human", None)
    assert path in verdict.reason


async def test_rule_2_a_test_is_not_altered_by_another_name(root: Path, tmp_path: Path) -> None:
    away = tmp_path / "repo"
    git(tmp_path, "clone", "-q", str(root), str(away))
    git(away, "mv", "tests", "qa")
    (away / "tests").symlink_to("qa")
    git(away, "add", "-A")
    git(away, "commit", "-qm", "base")
    repository, shelf = await Repository.open(away), Shelf()
    base = await repository.head()
    async with (
        LocalDriver(away, away / ".spurline" / "local") as driver,
        LoopValidator(driver, repository, away / ".spurline", shelf, shelf) as validator,
    ):
        stage = Stage(repository, driver, validator, shelf, base)
        verdict, _ = await stage.judge(ticket(AGE, services=()), {"users/app.py": WITH_AGE, "qa/test_users.py": ""})
    assert verdict.conclusion == "needs_human"
    assert "qa/test_users.py" in verdict.reason


async def test_rule_2_an_added_test_is_run_and_never_decides(stage: Stage) -> None:
    files = {"users/app.py": WITH_AGE, "tests/json.py": "raise SystemExit(3)\n"}
    verdict, document = await stage.judge(ticket(AGE), files)
    assert verdict.conclusion == "verified"
    assert [(one["name"], one["outcome"]) for one in document["added"]] == [("suite", "fail")]
    assert any("tests/json.py" in note for note in document["notes"])


async def test_rule_2_static_checks_fail_a_change_before_it_is_started(stage: Stage) -> None:
    work, commit = stage.work(ticket(AGE)), stage.commit({"users/app.py": "def broken(:\n"})
    feedback = await stage.validator.static(work, commit)
    assert feedback is not None
    assert "SyntaxError" in feedback
    verdict = await judge_commit(stage.validator, run="check", base=stage.base, commit=commit)
    assert verdict.conclusion == "failed"


async def test_a_change_outside_of_the_ticket_needs_a_human(stage: Stage) -> None:
    verdict, _ = await stage.judge(ticket(AGE), {"users/app.py": WITH_AGE, "pricing/app.py": PRICING + "#\n"})
    assert verdict.conclusion == "needs_human"
    assert "pricing/app.py" in verdict.reason


# 3. Own checks are red on the baseline and green in the sandbox; the others green in both.


async def test_rule_3_an_own_check_that_passes_on_the_baseline_proves_nothing(stage: Stage) -> None:
    own = http("/users/1", {"json": {"answer": {"name": "ann"}}})
    verdict, _ = await stage.judge(ticket(own), {"users/app.py": WITH_AGE})
    assert (verdict.conclusion, verdict.feedback) == ("unproven", None)
    assert "passes on the untouched baseline" in verdict.reason


@pytest.mark.parametrize("run", ["no-such-program-here", f"{PYTEST} tests/not_there.py", "kill -9 $$"])
async def test_rule_3_a_check_that_cannot_run_is_no_old_failure(stage: Stage, run: str) -> None:
    # In the sandbox it would pass: only there the change's mark is set.
    own = CommandCheck(name="own", run=f'if curl -s "$SPURLINE_URL/users/1" | grep -q age; then exit 0; fi; {run}')
    verdict, document = await stage.judge(ticket(own), {"users/app.py": WITH_AGE})
    assert (verdict.conclusion, verdict.feedback) == ("unproven", None)
    assert document["checks"][0]["baseline"] == "unjudged"


async def test_rule_3_a_regression_fails_and_its_evidence_names_the_test(stage: Stage) -> None:
    files = {"users/app.py": users("    return 200, {'id': 1, 'age': 7}")}
    verdict, _ = await stage.judge(ticket(AGE), files)
    assert verdict.conclusion == "failed"
    assert verdict.feedback is not None
    assert "failing test test_users::test_users_have_names: KeyError: 'name'" in verdict.feedback


SKIPPING = """
import json, os, sys, urllib.request

with urllib.request.urlopen(os.environ["SPURLINE_URL"] + "/users/1") as response:
    user = json.load(response)["answer"]
cases = {"name": user["name"] == "ann", "age": user.get("age") == 7}
says = {True: "", False: "<failure message='no'/>", None: "<skipped message='it has none'/>"}
found = {name: None if user.get(name, 0) is None else good for name, good in cases.items()}
report = "".join(f'<testcase classname="users" name="{name}">{says[good]}</testcase>' for name, good in found.items())
open(os.environ["SPURLINE_JUNIT"], "w").write(f"<testsuite>{report}</testsuite>")
sys.exit(False in found.values())
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("'name': 'ann', 'age': None", "users::age, which fails on the baseline, was skipped"),
        ("'name': None, 'age': 7", "users::name, which passes on the baseline, was skipped"),
    ],
)
async def test_rule_3_tests_that_are_skipped_with_the_change_do_not_hold(
    stage: Stage, tmp_path: Path, body: str, said: str
) -> None:
    script = tmp_path / "own.py"
    script.write_text(SKIPPING)
    own = CommandCheck(name="own", run=f"{sys.executable} {script}")
    files = {"users/app.py": users(f"    return 200, {{'id': 1, {body}}}")}
    verdict, document = await stage.judge(ticket(own), files)
    assert document["checks"][0]["runs"] == ["unjudged", "unjudged"], document["checks"][0]
    assert verdict.conclusion == "failed", verdict
    assert said in verdict.reason
    verdict, _ = await stage.judge(ticket(own), {"users/app.py": WITH_AGE})
    assert verdict.conclusion == "verified", verdict


async def test_a_commit_without_a_ticket_is_verified_for_regressions_only(stage: Stage) -> None:
    commit = stage.commit({"users/app.py": WITH_AGE})
    verdict = await judge_commit(stage.validator, run="check", base=stage.base, commit=commit)
    assert verdict.conclusion == "verified"
    assert "for regressions only" in verdict.reason
    planted = (await stage.read(verdict))["planted"]
    assert [(one["service"], one["turned_red"]) for one in planted] == [("users", "suite")]
    assert not [box.name for box in await stage.driver.list()]


async def test_rule_3_a_check_that_asks_no_fork_is_not_turned_by_the_change(stage: Stage, tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    # Red twice on the baseline, green twice beside the fork, red once more on the untouched code.
    run = f"n=$(($(cat {count}) + 1)); echo $n > {count}; test $n = 3 || test $n = 4"
    verdict, document = await stage.judge(ticket(CommandCheck(name="own", run=run)), {"users/app.py": WITH_AGE})
    assert document["checks"][0]["runs"] == ["pass", "pass"]
    assert verdict.conclusion == "unproven"
    assert "asked no fork" in verdict.reason


async def test_rule_3_red_by_what_somebody_left_in_the_baseline_is_not_turned_by_a_fresh_process(stage: Stage) -> None:
    baseline = await stage.driver.baseline()
    assert baseline is not None
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(baseline.urls["gateway"] + "/users/leave")
    tidy = http("/users/1", {"status": 200, "json": {"answer": {"left": 0}}})
    verdict, document = await stage.judge(ticket(tidy), {"users/app.py": USERS + "# as before\n"})
    assert verdict.conclusion == "unproven", verdict
    assert "untouched code" in verdict.reason
    assert document["checks"][0]["runs"] == ["pass", "pass"]


# 4. Every fork is proven to be asked, and the checks to look.


async def test_rule_4_a_key_lost_on_the_way_is_named(stage: Stage) -> None:
    own = http("/legacy/1", {"json": {"answer": {"age": 7}}})
    verdict, document = await stage.judge(ticket(own), {"users/app.py": WITH_AGE})
    assert (verdict.conclusion, verdict.feedback) == ("unproven", None), verdict
    assert "lost at legacy, which called users" in verdict.reason
    assert document["checks"][0]["lost"] == [{"service": "legacy", "callee": "users"}]


async def test_rule_4_a_fork_that_loses_the_key_itself_hears_of_it(stage: Stage) -> None:
    gateway = GATEWAY.replace("serve(answer)", "serve(answer, forward=False)")
    files = {"users/app.py": WITH_AGE, "gateway/app.py": gateway}
    verdict, _ = await stage.judge(ticket(AGE, services=("users", "gateway")), files)
    assert verdict.conclusion == "unproven"
    assert "lost at gateway" in verdict.reason
    assert "gateway was called with the routing key and called users without it" in (verdict.feedback or "")


async def test_rule_4_a_check_that_passes_since_one_fork_asked_the_baseline_instead_of_another(stage: Stage) -> None:
    # The suite would find users without a name; the key is forwarded for the own check's path alone.
    renamed = users("    return 200, {'id': 1, 'full_name': 'ann', 'age': 7}")
    forgetful = GATEWAY.replace("call(service,", "call(service, rest == 'age',")
    server = SERVER.replace("def call(self, service, path):", "def call(self, service, forward, path):")
    gateway = HEAD + server + forgetful.removeprefix(HEAD)
    age = http("/users/age", {"status": 200, "json": {"answer": {"age": 7}}})
    files = {"users/app.py": renamed, "gateway/app.py": gateway}
    verdict, document = await stage.judge(ticket(age, services=("users", "gateway")), files)
    checks = {check["name"]: check for check in document["checks"]}
    assert checks["suite"]["runs"] == ["pass"] * 3
    assert verdict.conclusion == "unproven", verdict
    assert "'suite' passes without asking all forks on its way: the routing key was lost at gateway" in verdict.reason
    assert "gateway was called with the routing key and called users without it" in (verdict.feedback or "")


async def test_rule_4_a_check_that_passes_by_a_service_that_loses_the_key_is_noted(stage: Stage) -> None:
    run = 'curl -s "$SPURLINE_URL/users/1" | grep age && curl -s "$SPURLINE_URL/legacy/1" | grep ann'
    verdict, document = await stage.judge(ticket(CommandCheck(name="own", run=run)), {"users/app.py": WITH_AGE})
    assert verdict.conclusion == "verified", verdict
    assert any("'own' did not ask the change on all of its ways: " in note for note in document["notes"]), document
    assert document["checks"][0]["runs"] == ["pass", "pass"]


@pytest.mark.parametrize(
    ("kept", "broken", "note"),
    [
        (
            "if path in KEPT: return KEPT[path]",
            "return 200, {'id': 1, 'full_name': 'ann', 'age': 7}",
            "check 'suite' asked users on the baseline, and never the change of it",
        ),
        (
            "if path in KEPT and call('users', '/1')[0] == 500: return KEPT[path]",
            "return (200, {'age': 7}) if path == '/age' else (500, {})",
            "check 'suite' passes though users answered gateway with 500 (GET /#)",
        ),
    ],
)
async def test_rule_4_a_check_that_passes_by_what_a_neighbour_kept_of_the_baseline_is_noted(
    root: Path, tmp_path: Path, kept: str, broken: str, note: str
) -> None:
    away = tmp_path / "repo"
    git(tmp_path, "clone", "-q", str(root), str(away))
    keeping = "    if path == '/users/1':\n        KEPT[path] = 200, {'answer': body}\n    return (200,"
    gateway = GATEWAY.replace("def answer(path, call):\n", f"KEPT = {{}}\ndef answer(path, call):\n    {kept}\n")
    (away / "gateway/app.py").write_text(gateway.replace("    return (200,", keeping))
    git(away, "commit", "-qam", "base")
    async with staged(away) as stage:
        age = http("/users/age", {"status": 200, "json": {"answer": {"age": 7}}})
        verdict, document = await stage.judge(ticket(age), {"users/app.py": users(f"    {broken}")})
    assert verdict.conclusion == "verified", verdict
    assert note in document["notes"]


POLLING = """
import json, os, time, urllib.request

def test_users_have_names():
    for _ in range(100):
        with urllib.request.urlopen(os.environ["SPURLINE_URL"] + "/users/1") as response:
            found = json.load(response)["answer"]
        if found:
            break
        time.sleep(0.05)
    assert found["name"] == "ann"
"""
LATER = """
import threading, time
DONE = {}
def ask():
    time.sleep(0.02)
    connection = http.client.HTTPConnection(os.environ["USERS"])
    connection.request("GET", "/1")
    DONE["found"] = json.loads(connection.getresponse().read())
def answer(path, call):
    if path == '/users/1':
        if not DONE:
            threading.Thread(target=ask).start()
            return 200, {'answer': {}}
        return 200, {'answer': DONE.pop("found")}
"""


async def test_rule_4_a_fork_that_asks_the_baseline_once_it_has_answered(root: Path, tmp_path: Path) -> None:
    away = tmp_path / "repo"
    git(tmp_path, "clone", "-q", str(root), str(away))
    (away / "tests/test_users.py").write_text(POLLING)
    git(away, "commit", "-qam", "base")
    async with staged(away) as stage:
        later = HEAD + SERVER + GATEWAY.removeprefix(HEAD).replace("def answer(path, call):\n", LATER)
        files = {"gateway/app.py": later, "users/app.py": users("    return 200, {'full_name': 'ann', 'age': 7}")}
        age = http("/users/age", {"status": 200, "json": {"answer": {"age": 7}}})
        verdict, document = await stage.judge(ticket(age, services=()), files)
    checks = {check["name"]: check for check in document["checks"]}
    assert checks["suite"]["runs"] == ["pass"] * 3
    assert verdict.conclusion == "unproven", verdict
    assert "the routing key was lost at gateway, which called users without it" in verdict.reason


async def test_rule_4_a_fork_that_no_check_asks(stage: Stage) -> None:
    files = {"users/app.py": WITH_AGE, "legacy/app.py": LEGACY + "# touched\n"}
    verdict, _ = await stage.judge(ticket(AGE, services=("users", "legacy")), files)
    assert verdict.conclusion == "unproven"
    assert "no check asked the fork of legacy" in verdict.reason


async def test_rule_4_checks_that_do_not_look(stage: Stage) -> None:
    legacy = LEGACY.replace("call('users', path)", "(200, {'legacy': 1})")
    blind = CommandCheck(name="blind", run='curl -s "$SPURLINE_URL/legacy/1"; exit 0')
    verdict, document = await stage.judge(ticket(blind, services=("legacy",), preserve=True), {"legacy/app.py": legacy})
    assert (verdict.conclusion, verdict.feedback) == ("unproven", None)
    assert "do not depend on legacy" in verdict.reason
    assert document["planted"][0]["served"] > 0


@pytest.mark.parametrize("red", ["= 4", "-ge 4"])
async def test_rule_4_a_check_that_turns_red_by_itself_was_not_turned_by_the_fault(
    stage: Stage, tmp_path: Path, red: str
) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    run = f'n=$(($(cat {count}) + 1)); echo $n > {count}; curl -s "$SPURLINE_URL/legacy/1"; test ! $n {red}'
    blind = CommandCheck(name="blind", run=run)
    files = {"legacy/app.py": LEGACY + "# touched\n"}
    verdict, document = await stage.judge(ticket(blind, services=("legacy",), preserve=True), files)
    assert int(count.read_text()) >= 4, "it did turn red"
    assert verdict.conclusion == "unproven", document
    assert "do not depend on legacy" in verdict.reason


async def test_rule_4_a_refactoring_is_proven_by_the_planted_fault(stage: Stage) -> None:
    looks = http("/users/1", {"json": {"answer": {"name": "ann"}}})
    refactored = users("    name = 'an' + 'n'\n    return 200, {'id': 1, 'name': name}")
    verdict, document = await stage.judge(ticket(looks, preserve=True), {"users/app.py": refactored})
    assert verdict.conclusion == "verified"
    assert document["planted"] == [{"service": "users", "turned_red": "own", "served": 1}]


async def test_rule_4_two_forks_behind_one_check_are_proven_one_by_one(stage: Stage) -> None:
    files = {"users/app.py": WITH_AGE, "gateway/app.py": GATEWAY + "# touched\n"}
    verdict, document = await stage.judge(ticket(AGE, services=("users", "gateway")), files)
    assert verdict.conclusion == "verified"
    assert {one["service"]: one["turned_red"] for one in document["planted"]} == {"users": "own", "gateway": "own"}


# 5. A clean record of every keyed request.


async def test_rule_5_a_refused_request_taints_a_pass(stage: Stage) -> None:
    own = CommandCheck(
        name="own",
        run='curl -s "$SPURLINE_URL/users/1" | grep age && '
        'curl -s -H "x-spurline-key: 0123456789abcdef" "$SPURLINE_URL/users/1"',
    )
    verdict, document = await stage.judge(ticket(own), {"users/app.py": WITH_AGE})
    assert verdict.conclusion == "unproven"
    assert "refused by the router" in verdict.reason
    assert document["checks"][0]["baseline"] == "fail"


async def test_rule_5_a_red_baseline_whose_requests_were_refused_is_no_red(stage: Stage) -> None:
    own = CommandCheck(
        name="own",
        run='curl -s "$SPURLINE_URL/users/1" | grep age && exit 0; '
        'curl -s -H "x-spurline-key: 0123456789abcdef" "$SPURLINE_URL/users/1"; exit 1',
    )
    verdict, document = await stage.judge(ticket(own), {"users/app.py": WITH_AGE})
    assert verdict.conclusion == "unproven"
    assert document["checks"][0]["baseline"] == "unjudged"


async def test_rule_5_a_fork_that_dies_meanwhile_is_not_verified(stage: Stage) -> None:
    dying = users("    if path == '/die':\n        import os; os._exit(1)\n    return 200, {'name': 'ann', 'age': 7}")
    own = CommandCheck(
        name="own",
        run='curl -s "$SPURLINE_URL/users/1" | grep age && (curl -s "$SPURLINE_URL/users/die"; sleep 0.3; exit 0)',
    )
    verdict, _ = await stage.judge(ticket(own), {"users/app.py": dying})
    assert verdict.conclusion != "verified"


@pytest.mark.parametrize("own_too", [True, False])
async def test_rule_5_a_key_that_nobody_has_is_a_lost_one(stage: Stage, own_too: bool) -> None:
    # A client that keeps the headers of its first request, say, and something to fall back on.
    forward = "carried = {'x-spurline-key': '0123456789abcdef'} if 'users/1' in self.path else carried\n"
    server = SERVER.replace("connection.request(", f"{forward}            connection.request(")
    kept = "    if status == 421:\n        return 200, {'answer': {'name': 'ann'}}\n    return (200,"
    gateway = HEAD + server + GATEWAY.removeprefix(HEAD).replace("    return (200,", kept)
    files = {"gateway/app.py": gateway}
    check = http("/pricing/1", {"status": 200, "json": {"answer": {"price": 5}}})
    if own_too:
        files["users/app.py"] = users("    return 200, {'id': 1, 'full_name': 'ann', 'age': 7}")
        check = http("/users/age", {"status": 200, "json": {"answer": {"age": 7}}})
    verdict, document = await stage.judge(ticket(check, services=(), preserve=not own_too), files)
    checks = {check["name"]: check for check in document["checks"]}
    assert checks["suite"]["runs"] == ["pass"] * 3
    assert verdict.conclusion == "unproven", verdict
    assert "the routing key was lost at gateway, which called users without it" in verdict.reason
    assert verdict.feedback


# 7. A check that changes its answer on the same commit.


async def test_rule_7_a_flaky_pass_of_an_own_check_is_no_pass(stage: Stage) -> None:
    turns = users(
        "    turn.append(path)\n    return 200, {'name': 'ann', 'age': 7 if len(turn) % 2 else 8}", "turn = []\n"
    )
    verdict, document = await stage.judge(ticket(AGE), {"users/app.py": turns})
    assert verdict.conclusion == "failed"
    assert "flaky" in verdict.reason
    assert document["checks"][0]["flaky"]
    assert "flaky" in (verdict.feedback or "")


async def test_rule_7_one_hiccup_is_reported_and_must_be_outlived(stage: Stage) -> None:
    hiccup = users(
        "    turn.append(path)\n    return 200, {'name': 'ann', 'age': 7 if len(turn) > 1 else 8}", "turn = []\n"
    )
    verdict, document = await stage.judge(ticket(AGE), {"users/app.py": hiccup})
    assert verdict.conclusion == "verified"
    assert document["checks"][0]["runs"] == ["fail", "pass", "pass"]
    assert any("flaky" in note for note in document["notes"])


# Forks that do not come up, and updates of the same sandbox.


async def test_a_fork_that_crashes_gives_its_traceback_and_the_update_is_verified(stage: Stage) -> None:
    work = stage.work(ticket(AGE))
    crash = await stage.validator.instantiate(
        work, stage.commit({"users/app.py": "raise RuntimeError('no more tea')\n"})
    )
    assert crash is not None
    assert crash.conclusion == "failed"
    assert "no more tea" in (crash.feedback or "")
    commit = stage.commit({"users/app.py": WITH_AGE})
    assert await stage.validator.instantiate(work, commit) is None
    verdict = await stage.validator.validate(work, commit, 2)
    await stage.validator.release(work)
    assert verdict.conclusion == "verified"


async def test_nothing_changed(stage: Stage) -> None:
    verdict, _ = await stage.judge(ticket(AGE), {})
    assert verdict.conclusion == "failed"
    assert "nothing changed" in (verdict.feedback or "")
