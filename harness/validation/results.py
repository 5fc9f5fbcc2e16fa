"""What checks say: results, how a check is named by its content, and the ports behind which results are kept.

A check passes, fails, or cannot be judged. A check that could not run is never a failure of the baseline and never a
pass of a sandbox.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, Protocol

from sandbox.seen import Seen
from tasks.ticket import Check

Outcome = Literal["pass", "fail", "unjudged"]

_NO_PARAMETERS: Final = re.compile(r"\[(?:.*-)?NOTSET(?:-.*)?\]$")
"""What pytest adds to the name of a parametrised test that it skips, since there is nothing to run it with."""


@dataclass(frozen=True, slots=True)
class FailingTest:
    """One test of a command check that failed, as its runner reported it."""

    name: str
    message: str
    text: str = ""
    """What the runner printed for it: the assertion, the traceback. Capped."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one run of one check ended. Texts are plain, capped and redacted."""

    outcome: Outcome
    detail: str
    """One line: what was expected and what came; empty for a pass."""
    tests: tuple[FailingTest, ...] = ()
    output: str = ""
    """The end of what a command printed."""
    milliseconds: int = 0
    flaky: bool = False
    """Set where several runs on the same commit gave different answers."""
    passed_tests: tuple[str, ...] | None = None
    """Names, by the runner's report; None where there is none that can be read."""
    skipped_tests: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    """Of a run on the baseline: signatures of the failing exchanges that belong to it there."""
    seen: Seen = field(default_factory=Seen)
    """What the router saw of it, and what was answered."""

    @property
    def passed(self) -> bool:
        return self.outcome == "pass"

    @property
    def said(self) -> str:
        """All that it said."""
        return "\n".join([self.detail, self.output, *(test.message + test.text for test in self.tests)])

    def beside(self, baseline: CheckResult) -> CheckResult:
        """The same, but no pass where tests that ran on the baseline did not run here: what is skipped, or was not even
        found, holds nothing."""
        if not self.passed or baseline.passed_tests is None:
            return self
        ran = {**dict.fromkeys(baseline.passed_tests, "passes"), **{test.name: "fails" for test in baseline.tests}}
        ran |= {"".join(name.partition("[")[:2]): how for name, how in ran.items()}
        skipped = {name: how for name in self.skipped_tests if (how := ran.get(_NO_PARAMETERS.sub("[", name)))}
        count, before = len(self.passed_tests or ()), len(baseline.passed_tests)
        if skipped:
            name, how = next(iter(skipped.items()))
            detail = f"{name}, which {how} on the baseline, was skipped"
        elif not baseline.passed:
            # A command of several test runners got further here, and its report may be that of another one.
            return self
        elif self.passed_tests is None:
            detail = "exit status 0, but without the report that there is of it on the baseline"
        elif count < before:
            detail = f"only {count} tests passed, on the baseline {before}"
        else:
            return self
        return replace(self, outcome="unjudged", detail=detail)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> CheckResult:
        """What `to_json` gave; KeyError or TypeError for anything else."""
        tests = tuple(FailingTest(**test) for test in data["tests"])
        seen = Seen.from_json(data["seen"]) if "seen" in data else Seen()
        lists = {name: tuple(data.get(name, ())) for name in ("failures", "skipped_tests")}
        passed = None if data.get("passed_tests") is None else tuple(data["passed_tests"])
        return CheckResult(**{**data, **lists, "tests": tests, "passed_tests": passed, "seen": seen})


def digest(check: Check) -> str:
    """sha256 of what the check is: its kind, name, command or request, expectations and time-out."""
    data = {"kind": check.kind, **check.model_dump(mode="json", by_alias=True)}
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class BaselineResults(Protocol):
    """Results of the untouched baseline, shared by all agents and by runs to come."""

    async def get(self, version: str, digest: str) -> dict[str, Any] | None:
        """What `put` was given for this check, as `CheckResult.to_json` made it."""
        ...

    async def put(self, version: str, digest: str, document: dict[str, Any]) -> None: ...


class Archive(Protocol):
    """Where whole verdict documents are kept."""

    async def save(self, run: str, ticket: str, document: dict[str, Any]) -> str:
        """Keep the document; its id."""
        ...

    async def load(self, name: str) -> dict[str, Any]: ...
