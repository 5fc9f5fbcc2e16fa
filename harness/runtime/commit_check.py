"""A check: one commit judged against its base, without any agent."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.project import Project
from harness.runtime.connections import Narrator, baseline_of, connected, opened_store, project_at

if TYPE_CHECKING:
    from graphs.ports import Verdict


@dataclass(frozen=True, slots=True)
class JudgedCommit:
    """The verdict on one commit, and where its record lies."""

    verdict: Verdict
    document: Mapping[str, Any]
    record: Path

    def to_json(self) -> dict[str, Any]:
        """The last line of `check --json`."""
        return {
            "event": "check.finished",
            "verdict": self.verdict.conclusion,
            "reason": self.verdict.reason,
            "commit": self.document["commit"],
            "base": self.document["base"],
            "checks": [
                {name: check[name] for name in ("name", "baseline", "sandbox", "flaky")}
                for check in self.document["checks"]
            ],
            "forks": [
                {name: fork[name] for name in ("service", "generation", "hops")} for fork in self.document["forks"]
            ],
            "record": str(self.record),
        }


async def check_commit(
    project: Project, rev: str, base_rev: str | None, ticket_id: str | None, narrate: Narrator
) -> JudgedCommit:
    """Judge one commit against its base and write the record. Raises SpurlineError where it cannot be judged."""
    from harness.repository import Repository
    from harness.store.documents import BaselineResults, Verdicts
    from harness.submission import SigningKey, write_record
    from harness.validation import LoopValidator, judge_commit

    repository = await Repository.open(project.root)
    commit = await repository.resolve(rev)
    base = await repository.resolve(base_rev) if base_rev is not None else await repository.fork_point(commit)
    project = await project_at(project, repository, base)
    ticket = next(iter(project.backlog().only([ticket_id]))) if ticket_id is not None else None
    narrate(f"judging {commit[:12]} against {base[:12]}")
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened_store(project))
        driver = await stack.enter_async_context(connected(project))
        await stack.enter_async_context(baseline_of(project, driver, base, narrate))
        verdicts = Verdicts(database)
        validator = LoopValidator(driver, repository, project.state, BaselineResults(database), verdicts)
        await stack.enter_async_context(validator)
        run = f"check-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        verdict = await judge_commit(validator, run=run, base=base, commit=commit, ticket=ticket)
        document = await verdicts.load(verdict.id)
        record = write_record(project.state, document, SigningKey.of(project.state / "keys"))
        return JudgedCommit(verdict, document, record)
