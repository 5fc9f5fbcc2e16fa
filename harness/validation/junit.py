"""JUnit XML, which any test runner can write: which tests failed, and in what words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from junitparser import Error, Failure, JUnitXml, Skipped, TestSuite

from harness.validation.results import FailingTest
from sandbox.exchanges import redact
from tasks.text import capped, one_line, plain

_SIZE_LIMIT_BYTES: Final = 16 * 1024 * 1024
_TEXT_LIMIT: Final = 2_000


@dataclass(frozen=True, slots=True)
class TestReport:
    """What one JUnit file says."""

    __test__ = False

    tests: int
    skipped: int
    failing: tuple[FailingTest, ...]


def read_junit(path: Path) -> TestReport | None:
    """The report in `path`; None where there is none, or nothing that can be read as one."""
    try:
        if not path.is_file() or path.stat().st_size > _SIZE_LIMIT_BYTES:
            return None
        root = JUnitXml.fromfile(str(path))
    except Exception:  # what the parser raises depends on what it found; no report is an answer too
        return None
    cases = list(_cases(root))
    skipped = sum(all(isinstance(result, Skipped) for result in case.result) and bool(case.result) for case in cases)
    failing = tuple(test for case in cases if (test := _failing(case)) is not None)
    return TestReport(tests=len(cases), skipped=skipped, failing=failing)


def _cases(root: Any) -> Iterator[Any]:
    # A suite yields the cases of the suites inside of it too.
    for suite in [root] if isinstance(root, TestSuite) else root:
        yield from suite


def _failing(case: Any) -> FailingTest | None:
    for result in case.result:
        if isinstance(result, (Failure, Error)):
            name = "::".join(part for part in (case.classname, case.name) if part)
            text = capped(redact(plain(result.text or "")), _TEXT_LIMIT)
            return FailingTest(one_line(name), one_line(redact(result.message or text)), text)
    return None
