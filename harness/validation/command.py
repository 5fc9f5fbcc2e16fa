"""Command checks: any program of the user's that judges the running system by its URLs; exit status 0 passes.

It runs in a copy of the base commit's tree that nobody else has, with a scrubbed environment. A program that could not
do its work (not found, killed, out of time, a test runner that found no tests) is `unjudged`: neither pass nor failure.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

from harness.commands import Finished, run, scrubbed_env
from harness.validation.junit import TestReport, read_junit
from harness.validation.results import CheckResult, Outcome
from harness.validation.targets import Target
from sandbox.confinement import Cage
from sandbox.exchanges import redact
from tasks.text import capped, one_line, plain
from tasks.ticket import CommandCheck

_OUTPUT_LIMIT: Final = 6_000
_PYTEST: Final = re.compile(r"(?:^|[\s/;&|(])(?:pytest|py\.test)(?=$|[\s;&|)])")
# https://docs.pytest.org/en/stable/reference/exit-codes.html
_PYTEST_UNJUDGED: Final = {
    2: "pytest was interrupted or could not collect its tests",
    3: "pytest failed internally",
    4: "pytest was called wrongly, or the tests are not there",
    5: "pytest found no tests",
}
_NOT_EXECUTABLE, _NOT_FOUND, _BY_SIGNAL = 126, 127, 128


async def run_command(
    check: CommandCheck, folder: Path, scratch: Path, target: Target, cage: Cage | None = None
) -> CheckResult:
    """Run the check in `folder`; `scratch` takes the JUnit report and temporary files. Both are the caller's.

    What judges comes from the base commit and needs no `cage`; what comes from a change gets one."""
    report = scratch / "junit.xml"
    report.unlink(missing_ok=True)
    argv = ["/bin/sh", "-c", check.run]
    env = _environment(folder, scratch, report, target)
    finished = await run(argv, cwd=folder, env=env, timeout_s=check.timeout, cage=cage)
    return interpret(check, finished, read_junit(report), target)


def interpret(check: CommandCheck, finished: Finished, report: TestReport | None, target: Target) -> CheckResult:
    """What an ended command and its report say of the check."""
    output = target.without_key(redact(plain(finished.output)))
    outcome, detail = _judge(check, finished, report, output)
    return CheckResult(
        outcome=outcome,
        detail=one_line(target.without_key(detail), 400),
        tests=report.failing if report is not None and outcome != "pass" else (),
        passed_tests=tuple(map(target.without_key, report.passed)) if report is not None else None,
        skipped_tests=tuple(map(target.without_key, report.skipped)) if report is not None else (),
        output="" if outcome == "pass" else capped(output, _OUTPUT_LIMIT),
        milliseconds=round(finished.seconds * 1000),
    )


def _judge(check: CommandCheck, finished: Finished, report: TestReport | None, output: str) -> tuple[Outcome, str]:
    code = finished.code
    if finished.timed_out:
        return "unjudged", f"not done within {check.timeout:g} s"
    if code is None or code < 0 or code > _BY_SIGNAL:
        return "unjudged", f"killed by a signal (exit status {code})"
    if code in (_NOT_EXECUTABLE, _NOT_FOUND):
        return "unjudged", f"could not be started: {_last_line(output)}"
    if _PYTEST.search(check.run) and code in _PYTEST_UNJUDGED:
        return "unjudged", f"{_PYTEST_UNJUDGED[code]}: {_last_line(output)}"
    if code != 0:
        return "fail", _failure(report, output, code)
    if report is not None and report.failing:
        return "unjudged", f"exit status 0, but its report says that {report.failing[0].name} failed"
    if report is not None and not report.passed:
        return "unjudged", f"all of its {report.tests} tests were skipped" if report.tests else "it ran no tests"
    return "pass", ""


def _failure(report: TestReport | None, output: str, code: int) -> str:
    if report is None or not report.failing:
        return f"exit status {code}: {_last_line(output)}"
    first = report.failing[0]
    return f"{len(report.failing)} of {report.tests} tests failed: {first.name}: {first.message}"


def _last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def _environment(folder: Path, scratch: Path, report: Path, target: Target) -> dict[str, str]:
    # `PYTHONSAFEPATH` is not set: the folder is the base commit's, and scripts beside their modules must work.
    options = ["-p", "no:cacheprovider", f"--junitxml={report}", f"--rootdir={folder}", f"--confcutdir={folder}"]
    return scrubbed_env(
        {
            **target.environment(),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
            "PYTEST_ADDOPTS": shlex.join(options),
            "SPURLINE_JUNIT": str(report),
            "TMPDIR": str(scratch),
            "NO_COLOR": "1",
        }
    )
