"""Command checks: real programs, real pytest; and what their ends and their reports come to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness.commands import Finished
from harness.validation.command import interpret, run_command
from harness.validation.junit import TestReport, read_junit
from harness.validation.results import CheckResult, FailingTest
from harness.validation.targets import Target
from tasks.ticket import CommandCheck

KEY = "0123456789abcdef"
TARGET = Target("web", {"web": "http://127.0.0.1:9/", "user-store": "http://127.0.0.1:8"}, KEY)
PYTEST = f"PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 {sys.executable} -m pytest -q"


async def run(folder: Path, command: str, timeout: float = 60.0) -> CheckResult:
    tree, scratch = folder / "tree", folder / "scratch"
    tree.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    return await run_command(CommandCheck(name="c", run=command, timeout=timeout), tree, scratch, TARGET)


async def test_exit_status_decides(tmp_path: Path) -> None:
    assert (await run(tmp_path, "true")).outcome == "pass"
    result = await run(tmp_path, "echo first; echo the last word; exit 1")
    assert (result.outcome, result.detail) == ("fail", "exit status 1: the last word")


async def test_it_is_told_where_the_system_is_and_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.setenv("PYTHONPATH", "/planted")
    script = (
        'test "$SPURLINE_URL" = http://127.0.0.1:9 && test "$SPURLINE_URL_USER_STORE" = http://127.0.0.1:8 '
        f'&& test "$SPURLINE_ROUTING_KEY" = {KEY} && test "$SPURLINE_BAGGAGE" = spurline-key={KEY} '
        '&& test -z "$ANTHROPIC_API_KEY$PYTHONPATH" && test "$PYTHONDONTWRITEBYTECODE" = 1'
    )
    assert (await run(tmp_path, script)).passed


async def test_the_key_is_not_in_what_it_printed(tmp_path: Path) -> None:
    result = await run(tmp_path, 'echo "$SPURLINE_BAGGAGE and $SPURLINE_ROUTING_KEY"; exit 1')
    assert KEY not in result.detail + result.output


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-program-here", "could not be started"),
        ("./not-executable", "could not be started"),
        ("kill -9 $$", "killed by a signal"),
    ],
)
async def test_what_could_not_run_is_not_judged(tmp_path: Path, command: str, words: str) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/not-executable").write_text("#!/bin/sh\n")
    result = await run(tmp_path, command)
    assert result.outcome == "unjudged"
    assert words in result.detail


async def test_out_of_time_is_not_judged(tmp_path: Path) -> None:
    result = await run(tmp_path, "sleep 30", timeout=0.2)
    assert (result.outcome, result.detail) == ("unjudged", "not done within 0.2 s")


async def test_pytest_names_the_failing_test_and_leaves_nothing(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "test_a.py").write_text("def test_one():\n    assert 400 == 201\n\ndef test_two():\n    pass\n")
    result = await run(tmp_path, PYTEST)
    assert result.outcome == "fail"
    assert result.detail == "1 of 2 tests failed: test_a::test_one: assert 400 == 201"
    assert "assert 400 == 201" in result.tests[0].text
    assert [path.name for path in tree.iterdir()] == ["test_a.py"]


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("import nothing_of_this_name\n", "", "could not collect"),
        ("", "", "found no tests"),
        ("def test_a(): pass\n", "not_there.py", "called wrongly"),
        ("import pytest\n@pytest.mark.skip\ndef test_a(): pass\n", "", "all of its 1 tests were skipped"),
    ],
)
async def test_pytest_without_an_answer_is_not_judged(tmp_path: Path, text: str, arguments: str, words: str) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/test_a.py").write_text(text)
    result = await run(tmp_path, f"{PYTEST} {arguments}")
    assert result.outcome == "unjudged"
    assert words in result.detail


async def test_settings_and_fixtures_above_the_folder_are_not_seen(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "conftest.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "tree/test_a.py").write_text("def test_one():\n    assert False\n")
    assert (await run(tmp_path, PYTEST)).outcome == "fail"


def ended(code: int | None, run: str = "make test", report: TestReport | None = None) -> str:
    finished = Finished(code, "the end\n", timed_out=code is None, seconds=1.0)
    return interpret(CommandCheck(name="c", run=run), finished, report, TARGET).outcome


@pytest.mark.parametrize(
    ("code", "run", "outcome"),
    [
        (0, "make test", "pass"),
        (2, "make test", "fail"),
        (2, "pytest -q", "unjudged"),
        (5, "cd tests && py.test", "unjudged"),
        (1, "pytest -q", "fail"),
        (4, "python -m pytest tests", "unjudged"),
        (4, "./my-pytest-like", "fail"),
        (127, "make test", "unjudged"),
        (137, "make test", "unjudged"),
        (None, "make test", "unjudged"),
    ],
)
def test_exit_statuses(code: int | None, run: str, outcome: str) -> None:
    assert ended(code, run) == outcome


def test_a_report_may_contradict_and_never_improve() -> None:
    failing = TestReport(("b",), (), (FailingTest("a", "no"),))
    assert ended(0, report=failing) == "unjudged"
    assert ended(1, report=TestReport(("a", "b"), (), ())) == "fail"
    assert ended(0, report=TestReport(("a",), ("b",), ())) == "pass"
    assert ended(0, report=TestReport((), ("a", "b"), ())) == "unjudged"
    assert ended(0, report=TestReport((), (), ())) == "unjudged"


RAN = CheckResult("pass", "", passed_tests=("a", "b"), skipped_tests=("c",))
RED = CheckResult("fail", "no", (FailingTest("b", "no"),), passed_tests=("a",))
OF_EACH = CheckResult("fail", "no", (FailingTest("m::b[1-tea]", "no"),), passed_tests=("a",))


@pytest.mark.parametrize(
    ("baseline", "passed", "skipped", "outcome"),
    [
        (RAN, ("a", "b"), ("c", "d"), "pass"),
        (RAN, ("d", "e"), (), "pass"),
        (RAN, ("a", "c", "d"), ("b",), "unjudged"),
        (RAN, ("a",), (), "unjudged"),
        (RAN, None, (), "unjudged"),
        (RED, ("a", "b"), (), "pass"),
        (RED, ("a", "c"), ("b",), "unjudged"),
        (RED, (), (), "pass"),
        (RED, None, (), "pass"),
        (OF_EACH, ("a", "m::b[1-ale]"), ("m::b[2-ale]", "m::c[NOTSET]"), "pass"),
        (OF_EACH, ("a",), ("m::b[1-NOTSET]",), "unjudged"),
        (OF_EACH, ("a",), ("m::b[NOTSET-1]",), "unjudged"),
        (CheckResult("pass", ""), ("a",), ("b",), "pass"),
        (CheckResult("fail", "exit status 1"), None, (), "pass"),
    ],
)
def test_a_pass_holds_what_ran_on_the_baseline(
    baseline: CheckResult, passed: tuple[str, ...] | None, skipped: tuple[str, ...], outcome: str
) -> None:
    kept = CheckResult.from_json(json.loads(json.dumps(baseline.to_json())))
    assert kept == baseline
    result = CheckResult("pass", "", passed_tests=passed, skipped_tests=skipped)
    assert result.beside(kept).outcome == outcome
    failed = CheckResult("fail", "no", passed_tests=passed)
    assert failed.beside(kept) == failed


def test_a_report_names_each_test_once(tmp_path: Path) -> None:
    path = tmp_path / "j.xml"
    skipped = "<testcase name='c'><skipped message='later'/></testcase>"
    torn_down = "<testcase name='a'/><testcase name='a'><error message='torn'/></testcase>"
    path.write_text(f"<testsuite>{torn_down}<testcase name='b'/><testcase name='b'/>{skipped}</testsuite>")
    report = read_junit(path)
    assert report is not None
    assert (report.passed, report.skipped, [test.name for test in report.failing]) == (("b",), ("c",), ["a"])
    assert report.tests == 3


def test_junit_of_many_shapes(tmp_path: Path) -> None:
    path = tmp_path / "j.xml"
    case = '<testcase classname="m.T" name="a"><failure message="no red">text</failure></testcase>'
    path.write_text(f'<testsuites><testsuite name="o"><testsuite name="i">{case}</testsuite></testsuite></testsuites>')
    report = read_junit(path)
    assert report is not None
    assert (report.tests, report.failing[0].name, report.failing[0].message) == (1, "m.T::a", "no red")
    path.write_text('<testsuite><testcase name="b"><error message="boom"/></testcase><testcase name="c"/></testsuite>')
    report = read_junit(path)
    assert report is not None
    assert (report.tests, report.failing[0].message) == (2, "boom")


@pytest.mark.parametrize("text", ["", "no xml", "<html/>", "<testsuite>"])
def test_what_is_no_report_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "j.xml"
    path.write_text(text)
    assert read_junit(path) is None
    assert read_junit(tmp_path / "none.xml") is None
