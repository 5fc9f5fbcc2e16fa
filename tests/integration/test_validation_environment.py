"""What the environment does to a verdict: a sick baseline, a dead router, data that was left behind, crowds."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from graphs.ports import Verdict, Work
from harness.project import read_project
from harness.repository import Repository
from harness.validation import LoopValidator
from harness.validation.baseline import BaselineBook
from sandbox.local.driver import LocalDriver
from sandbox.sample import APP
from tasks.errors import BaselineError, EnvironmentFault
from tasks.ticket import CommandCheck, HttpCheck, Ticket, TicketChecks


def service(name: str, following: str | None) -> dict[str, Any]:
    env = {"NEXT": f"${{host:{following}}}:${{port:{following}}}"} if following else {}
    return {"cwd": name, "command": [sys.executable, "app.py"], "env": env, "ready": {"http": "/healthz"}}


SETTINGS: dict[str, Any] = {
    "project": "tiny",
    "baseline": {"entry": "a", "services": {"a": service("a", "b"), "b": service("b", None), "c": service("c", None)}},
}
FILES = {
    "spurline.yaml": json.dumps(SETTINGS),
    ".gitignore": ".spurline/\n",
    **{f"{name}/app.py": APP for name in "abc"},
    **{f"{name}/word.txt": name for name in "abc"},
}


def git(root: Path, *args: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.invalid")
    return subprocess.run(
        ["git", *identity, *args], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def write(root: Path, files: dict[str, str], message: str) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "add", "-A")
    git(root, "commit", "-qm", message)
    return git(root, "rev-parse", "HEAD")


@dataclass
class Shelf:
    """Both stores, in memory."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    results: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    async def save(self, run: str, ticket: str, document: dict[str, Any]) -> str:
        self.documents.append(document)
        return str(len(self.documents) - 1)

    async def load(self, name: str) -> dict[str, Any]:
        return self.documents[int(name)]

    async def get(self, version: str, digest: str) -> dict[str, Any] | None:
        return self.results.get((version, digest))

    async def put(self, version: str, digest: str, document: dict[str, Any]) -> None:
        self.results[version, digest] = document


@dataclass
class Stage:
    repository: Repository
    driver: LocalDriver
    validator: LoopValidator
    shelf: Shelf
    base: str
    changed: str
    """`b` says `changed-b`."""

    async def judge(self, ticket: Ticket, box: str = "box", commit: str | None = None) -> Verdict:
        work = Work("run", ticket, "branch", self.base, "nowhere", box)
        verdict = await self.validator.instantiate(work, commit or self.changed)
        verdict = verdict or await self.validator.validate(work, commit or self.changed, 1)
        await self.validator.release(work)
        return verdict

    async def pid(self, service: str) -> int:
        baseline = await self.driver.baseline()
        assert baseline is not None
        pid = baseline.services[service].pid
        assert pid is not None
        return pid


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    root = tmp_path / "repo"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    base = write(root, FILES, "base")
    changed = write(root, {"b/word.txt": "changed-b"}, "changed")
    git(root, "checkout", "-q", base)
    repository, shelf, state = await Repository.open(root), Shelf(), root / ".spurline"
    async with (
        LocalDriver(root, state / "local") as driver,
        LoopValidator(driver, repository, state, shelf, shelf) as validator,
    ):
        await driver.up(read_project(root).system(), base)
        yield Stage(repository, driver, validator, shelf, base, changed)


def command(run: str) -> Ticket:
    return Ticket(id="t", title="T", checks=TicketChecks(command=(CommandCheck(name="own", run=run, timeout=60),)))


def asks(word: str) -> Ticket:
    check = HttpCheck.model_validate(
        {"name": "own", "request": {"path": "/"}, "expect": {"json": {"next": {"word": word}}}}
    )
    return Ticket(id=f"t-{word}", title="T", checks=TicketChecks(http=(check,)))


GREEN = 'curl -s "$SPURLINE_URL/" | grep -q changed-b'


async def test_rule_6_a_baseline_that_is_sick_before_is_not_judged_with(stage: Stage) -> None:
    os.kill(await stage.pid("c"), 9)
    with pytest.raises(BaselineError, match="sick: c") as caught:
        await stage.judge(asks("changed-b"))
    assert caught.value.hint
    assert stage.shelf.documents == []


async def test_a_fault_that_a_killed_trial_left_planted_is_nobodys_failure(stage: Stage) -> None:
    await stage.driver.create("box", ttl_s=60)
    await stage.driver.plant("box", "b")
    verdict = await stage.judge(asks("changed-b"))
    assert verdict.conclusion == "verified", verdict.reason


async def test_a_fork_that_somebody_killed_once_is_nobodys_failure(stage: Stage) -> None:
    work = Work("run", asks("changed-b"), "branch", stage.base, "nowhere", "box")
    assert await stage.validator.instantiate(work, stage.changed) is None
    fork = (await stage.driver.get("box")).forks["b"]
    assert fork.pid is not None
    os.kill(fork.pid, 9)
    verdict = await stage.validator.validate(work, stage.changed, 1)
    assert verdict.conclusion == "verified", verdict.reason


async def test_a_fork_that_dies_of_what_it_is_asked_fails(stage: Stage) -> None:
    root = stage.repository.root
    app = APP.replace("answer = {", "self.path == '/healthz' or os._exit(1)\n        answer = {", 1)
    dies = write(root, {"b/app.py": app}, "dies")
    verdict = await stage.judge(asks("changed-b"), commit=dies)
    assert verdict.conclusion == "failed"
    assert verdict.feedback


async def test_rule_6_a_baseline_that_falls_sick_meanwhile_is_not_judged_with(stage: Stage) -> None:
    with pytest.raises(BaselineError):
        await stage.judge(command(f"{GREEN} && kill -9 {await stage.pid('c')}"))
    assert stage.shelf.documents == []


async def test_rule_6_a_baseline_of_another_version_is_not_judged_with(stage: Stage) -> None:
    await stage.driver.down()
    await stage.driver.up(read_project(stage.repository.root).system(), stage.changed)
    with pytest.raises(BaselineError, match="the baseline runs"):
        await stage.judge(asks("changed-b"))


async def test_a_service_whose_untouched_code_cannot_be_forked_is_nobodys_failure(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        fixed = free.getsockname()[1]
    start = f"import runpy, socket; held = socket.create_server(('127.0.0.1', {fixed})); runpy.run_path('app.py')"
    greedy = {**service("b", None), "command": [sys.executable, "-c", start]}
    services = {**SETTINGS["baseline"]["services"], "b": greedy}
    settings = {**SETTINGS, "baseline": {"entry": "a", "services": services}}
    root = stage.repository.root
    base = write(root, {"spurline.yaml": json.dumps(settings)}, "b wants a port of its own")
    changed = write(root, {"b/word.txt": "changed-b"}, "changed")
    git(root, "checkout", "-q", base)
    await stage.driver.down()
    await stage.driver.up(read_project(root).system(), base)
    with pytest.raises(BaselineError, match="'b' cannot be forked, the untouched code neither") as caught:
        await replace(stage, base=base, changed=changed).judge(asks("changed-b"))
    assert "Address already in use" in caught.value.message
    assert "confine: false" in caught.value.hint
    assert stage.shelf.documents == []
    assert await stage.driver.list() == (), "neither the trial's sandbox is left nor one without its first forks"
    await stage.driver.delete("box")


async def test_rule_5_records_that_were_lost_taint_a_pass(stage: Stage) -> None:
    kill = (
        f"import psutil; [p.kill() for p in psutil.Process({os.getpid()}).children(recursive=True) "
        "if 'envoy' in p.name()]"
    )
    assert any("envoy" in child.name() for child in psutil.Process().children(recursive=True))
    # A router that is down when it is asked may as well be an environment that cannot judge.
    try:
        verdict = await stage.judge(command(f'{GREEN} && {sys.executable} -c "{kill}"'))
    except EnvironmentFault:
        return
    assert verdict.conclusion == "unproven"
    assert "records were lost" in verdict.reason


async def test_rule_3_a_check_that_is_flaky_on_the_baseline_is_no_red(stage: Stage, tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    verdict = await stage.judge(
        command(f"n=$(cat {count}); echo $((n + 1)) > {count}; {GREEN} && exit 0; test $((n % 2)) = 1")
    )
    assert (verdict.conclusion, verdict.feedback) == ("unproven", None)
    assert "flaky on the baseline" in verdict.reason


async def test_rule_3_a_check_that_turned_green_by_what_was_left_behind_proves_nothing(
    stage: Stage, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    verdict = await stage.judge(command(f"test -e {mark} && exit 0; {GREEN} && touch {mark}"))
    assert verdict.conclusion == "unproven"
    assert "did not stay red" in verdict.reason


async def with_check(stage: Stage, run: str) -> Stage:
    """The same with a check of the repository's in its base commit; `b` is not confined."""
    services = {**SETTINGS["baseline"]["services"], "b": {**service("b", None), "confine": False}}
    checks = {"command": [{"name": "old", "run": run}]}
    settings = {**SETTINGS, "baseline": {"entry": "a", "services": services}, "checks": checks}
    root = stage.repository.root
    base = write(root, {"spurline.yaml": json.dumps(settings)}, "a check")
    changed = write(root, {"b/word.txt": "changed-b"}, "changed")
    git(root, "checkout", "-q", base)
    await stage.driver.down()
    await stage.driver.up(read_project(root).system(), base)
    return replace(stage, base=base, changed=changed)


async def test_rule_7_what_is_flaky_on_the_baseline_does_not_excuse_a_change_that_breaks_it(
    stage: Stage, tmp_path: Path
) -> None:
    count, asked = tmp_path / "count", tmp_path / "asked"
    count.write_text("0")
    # Every second run fails on the baseline, and every one with the change.
    turns = f"n=$(cat {count}); echo $((n + 1)) > {count}; test $((n % 2)) = 1"
    stage = await with_check(stage, f"{GREEN} && echo x >> {asked} && exit 1; {turns}")
    verdict = await stage.judge(command(GREEN))
    assert verdict.conclusion == "unproven", verdict.reason
    assert "'old' passes now and then on the baseline, with the change in none of 5 runs" in verdict.reason
    assert "does not pass" in (verdict.feedback or "")
    assert asked.read_text().count("x") == 5


async def test_rule_3_what_the_change_breaks_in_the_baseline_as_it_starts_is_not_the_baselines_fault(
    stage: Stage, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.write_text("sound")
    stage = await with_check(stage, f'grep -q sound {data} && curl -sf "$SPURLINE_URL/"')
    root = stage.repository.root
    breaking = APP.replace("import ", f"open({str(data)!r}, 'w').write('broken')\nimport ", 1)
    git(root, "checkout", "-q", stage.changed)
    commit = write(root, {"b/app.py": breaking}, "breaks what all share")
    git(root, "checkout", "-q", stage.base)
    verdict = await stage.judge(asks("changed-b"), commit=commit)
    assert data.read_text() == "broken"
    assert verdict.conclusion == "failed", verdict
    assert "'old' fails" in verdict.reason


async def test_rule_3_what_failed_on_the_baseline_once_excuses_nothing_for_ever(stage: Stage, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.touch()
    stage = await with_check(stage, f"""test ! -e {away} && curl -s "$SPURLINE_URL/" | grep -q '"word": "b"'""")
    verdict = await stage.judge(asks("changed-b"))
    assert verdict.conclusion == "verified", verdict
    away.unlink()
    verdict = await stage.judge(asks("changed-b"), box="again")
    assert verdict.conclusion == "failed", verdict
    assert "'old' fails" in verdict.reason


async def test_results_of_the_baseline_are_taken_once_for_a_crowd(stage: Stage, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    ticket = command(f"echo x >> {asked}; exit 1")
    docket = await stage.validator._benches.docket(stage.base, ticket)
    book = stage.validator._book
    found = await asyncio.gather(*(book.result(docket, docket.items[0]) for _ in range(30)))
    assert {result.outcome for result in found} == {"fail"}
    assert asked.read_text() == "x\n" * docket.repeat
    assert len(stage.shelf.results) == 1
    assert await stage.driver.list() == ()


async def test_what_an_earlier_version_kept_without_the_tests_that_ran_is_asked_anew(
    stage: Stage, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    docket = await stage.validator._benches.docket(stage.base, command(f"echo x >> {asked}"))

    async def ask() -> None:
        book = BaselineBook(stage.driver, stage.shelf, stage.validator._examiner)
        await book.result(docket, docket.items[0])
        await book.aclose()

    await ask()
    await ask()
    assert asked.read_text() == "x\n"
    for document in stage.shelf.results.values():
        del document["passed_tests"], document["skipped_tests"]
    await ask()
    assert asked.read_text() == "x\nx\n"


async def test_many_agents_judge_the_same_service_at_once(stage: Stage) -> None:
    root = stage.repository.root
    words = [f"word-{n}" for n in range(6)]
    commits = []
    for word in words:
        git(root, "checkout", "-q", stage.base)
        commits.append(write(root, {"b/word.txt": word}, word))
    git(root, "checkout", "-q", stage.base)
    verdicts = await asyncio.gather(
        *(stage.judge(asks(word), box=word, commit=commit) for word, commit in zip(words, commits, strict=True))
    )
    assert {verdict.conclusion for verdict in verdicts} == {"verified"}, verdicts
    assert {document["commit"] for document in stage.shelf.documents} == set(commits)
    assert await stage.driver.list() == ()


async def test_a_wrong_answer_of_another_agent_is_never_ones_own(stage: Stage) -> None:
    verdicts = await asyncio.gather(
        stage.judge(asks("changed-b"), box="one"), stage.judge(asks("other-word"), box="two")
    )
    assert [verdict.conclusion for verdict in verdicts] == ["verified", "failed"]
    assert 'expected "other-word", got "changed-b"' in (verdicts[1].feedback or "")
