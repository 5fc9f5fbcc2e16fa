"""Validation: the checks are run against the real system, and a commit is judged by the seven rules of 'verified'."""

from __future__ import annotations

from harness.validation.document import rejudge
from harness.validation.results import Archive, BaselineResults, CheckResult
from harness.validation.validator import LoopValidator, judge_commit

__all__ = ["Archive", "BaselineResults", "CheckResult", "LoopValidator", "judge_commit", "rejudge"]
