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

    passed: tuple[str, ...]
    """Names, each once."""
    skipped: tuple[str, ...]
    """Names of those that did not run, or were expected to fail and failed."""
    failing: tuple[FailingTest, ...]

    @property
    def tests(self) -> int:
        return len(self.passed) + len(self.skipped) + len(self.failing)


def read_junit(path: Path) -> TestReport | None:
    """The report in `path`; None where there is none, or nothing that can be read as one."""
    try:
        if not path.is_file() or path.stat().st_size > _SIZE_LIMIT_BYTES:
            return None
        root = JUnitXml.fromfile(str(path))
    except Exception:  # what the parser raises depends on what it found; no report is an answer too
        return None
    cases = list(_cases(root))
    failing = tuple(test for case in cases if (test := _failing(case)) is not None)
    others = [case for case in cases if _failing(case) is None]
    skipped = dict.fromkeys(_name(case) for case in others if any(isinstance(one, Skipped) for one in case.result))
    rest = {*skipped, *(test.name for test in failing)}
    passed = dict.fromkeys(name for case in others if (name := _name(case)) not in rest)
    return TestReport(tuple(passed), tuple(skipped), failing)


def _cases(root: Any) -> Iterator[Any]:
    # A suite yields the cases of the suites inside of it too.
    for suite in [root] if isinstance(root, TestSuite) else root:
        yield from suite


def _failing(case: Any) -> FailingTest | None:
    for result in case.result:
        if isinstance(result, (Failure, Error)):
            text = capped(redact(plain(result.text or "")), _TEXT_LIMIT)
            return FailingTest(_name(case), one_line(redact(result.message or text)), text)
    return None


def _name(case: Any) -> str:
    return one_line("::".join(part for part in (case.classname, case.name) if part))
