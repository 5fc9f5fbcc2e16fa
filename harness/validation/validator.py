"""The validator of the loop: static checks, forks, checks, verdict; over any driver.

A verdict is archived whole before the loop hears of it. What the environment did wrong is raised and never judged; what
the agent can mend goes back to it as evidence.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from graphs.ports import Verdict, Work
from harness.repository import Repository
from harness.validation import evidence
from harness.validation.baseline import BaselineBook, sound_baseline
from harness.validation.bench import Benches, Docket, no_ticket
from harness.validation.command import run_command
from harness.validation.document import Heading, document_of
from harness.validation.examiner import Examiner
from harness.validation.facts import Facts, ScopeFacts, StaticFacts
from harness.validation.results import Archive, BaselineResults, CheckResult
from harness.validation.scope import scope_of
from harness.validation.static import StaticChecks
from harness.validation.targets import Target
from harness.validation.trial import Case, Court, Trial
from harness.validation.verdict import Judgement, judge, judge_scope
from sandbox.driver import Driver, LogLine, Sandbox, Source
from tasks.errors import BaselineError, ForkError, SandboxGone
from tasks.ticket import CommandCheck, Ticket

_ATTEMPTS: Final = 3
"""How often a run of the checks is made whose environment did not hold."""
_LOG_MARGIN_S: Final = 0.5

_Static = tuple[StaticFacts, ...]
Turn = Callable[[str], AbstractAsyncContextManager[None]]
"""Lets a ticket run checks for the block, once it is its turn."""


class LoopValidator:
    """Fulfils `graphs.ports.Validator`; an async context manager that removes what it made on disk.

    `state` is the project's `.spurline/`; `turn` is for the checks that are run on the baseline before a fork is made.
    """

    def __init__(
        self,
        driver: Driver,
        repository: Repository,
        state: Path,
        results: BaselineResults,
        archive: Archive,
        turn: Turn = lambda _: nullcontext(),
    ) -> None:
        self._turn = turn
        self._driver, self._repository, self._archive = driver, repository, archive
        self._benches = Benches(repository, state / "judge")
        self._examiner = Examiner(self._benches)
        self._book = BaselineBook(driver, results, self._examiner)
        self._court = Court(driver, self._examiner, self._book)
        self._statics = StaticChecks(self._benches)
        self._static: dict[tuple[str, str], tuple[str, _Static]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._book.aclose()
        await self._statics.aclose()
        await self._examiner.aclose()
        await self._benches.aclose()

    async def static(self, work: Work, commit: str) -> str | None:
        """Run the static checks on the commit; None, or what goes back to the agent."""
        docket = await self._benches.docket(work.base, work.ticket)
        facts, output = await self._statics.check(docket.project, work.base, commit)
        self._static[work.run, work.ticket.id] = (commit, facts)
        return evidence.of_static(output) if output else None

    async def diagnose(self, work: Work) -> str:
        """What the static checks say of the worktree as it stands: for an agent that asks before it hands in."""
        docket = await self._benches.docket(work.base, work.ticket)
        return await self._statics.in_folder(docket.project, Path(work.worktree))

    async def instantiate(self, work: Work, commit: str) -> Verdict | None:
        """Fork what the commit changed, and what is forked already. None when all of it is ready."""
        docket, scope = await self._read(work, commit)
        facts = _unasked(docket, commit, scope, self._known_static(work, commit))
        objection = judge_scope(facts)
        if objection is not None:
            return await self._conclude(work, docket, facts, objection, evidence.of_judgement(objection))
        await sound_baseline(self._driver, work.base)
        await self._ask_baseline(docket)
        try:
            await self._fork(work.sandbox, scope.services, commit, ttl_s=docket.project.settings.baseline.ttl)
        except ForkError as error:
            await self._book.blame(work.base, error)
            reason = f"the fork of {error.service} did not {error.stage}: {error.message}"
            return await self._conclude(
                work, docket, facts, Judgement("failed", reason, returns=True), evidence.of_fork(error)
            )
        return None

    async def validate(self, work: Work, commit: str, iteration: int) -> Verdict:
        """Run the checks and judge. EnvironmentFault when the environment did not hold, however often it was tried."""
        began_ms = _now_ms()
        docket, scope = await self._read(work, commit)
        static = self._known_static(work, commit)
        if static is None:
            static, output = await self._statics.check(docket.project, work.base, commit)
            if output:
                facts = _unasked(docket, commit, scope, static)
                return await self._conclude(work, docket, facts, judge(facts), evidence.of_static(output))
        trial = await self._tried(Case(docket, commit, work.sandbox, scope, static))
        judgement = judge(trial.facts)
        added: dict[str, CheckResult] = {}
        if judgement.conclusion == "verified":
            added = await self._added(docket, trial, commit)
        text = None
        if judgement.conclusion != "verified":
            text = evidence.of_trial(trial, judgement, await self._logs(trial, judgement))
        return await self._conclude(
            work, docket, trial.facts, judgement, text, trial=trial, added=added, iteration=iteration, began_ms=began_ms
        )

    async def release(self, work: Work, *, keep_s: float = 0.0) -> None:
        """Delete the sandbox, or leave it to live for so long."""
        self._static.pop((work.run, work.ticket.id), None)
        if keep_s > 0:
            # One that is gone cannot be kept.
            with suppress(SandboxGone):
                await self._driver.renew(work.sandbox, ttl_s=keep_s)
        else:
            await self._driver.delete(work.sandbox)

    async def _read(self, work: Work, commit: str) -> tuple[Docket, ScopeFacts]:
        docket = await self._benches.docket(work.base, work.ticket)
        changes = await self._repository.changed(work.base, commit)
        return docket, scope_of(changes, docket.system, docket.protected, docket.ticket.services, docket.links)

    def _known_static(self, work: Work, commit: str) -> _Static | None:
        known = self._static.get((work.run, work.ticket.id))
        return known[1] if known is not None and known[0] == commit else None

    async def _ask_baseline(self, docket: Docket) -> None:
        """Have the baseline say its part before the change runs beside it: the two share their data, and what the
        change breaks there must not look as if it had never worked."""
        unknown = [item for item in docket.items if not self._book.knows(docket, item)]
        if unknown:
            async with self._turn(docket.ticket.id):
                for item in unknown:
                    await self._book.result(docket, item)

    async def _fork(self, name: str, services: Iterable[str], commit: str, *, ttl_s: float) -> None:
        """Have `services`, and all that the sandbox forked before, run the commit in it."""
        try:
            sandbox = await self._driver.renew(name, ttl_s=ttl_s)
        except SandboxGone:
            await self._driver.create(name, ttl_s=ttl_s, sources=_sources(services, commit))
            return
        wanted = {*services, *sandbox.forks}
        if not all(_runs(sandbox, service, commit) for service in wanted):
            await self._driver.fork(name, _sources(wanted, commit))

    async def _tried(self, case: Case) -> Trial:
        trial = await self._heard(case)
        for _ in range(_ATTEMPTS - 1):
            lived = trial.lived
            if trial.steady and lived:
                return trial
            trial = await self._heard(case)
            if trial.steady and not (trial.lived or lived):
                # Twice is the change's own doing.
                return trial
        assert trial.facts.baseline is not None
        if not trial.facts.baseline.steady:
            raise BaselineError(
                f"the baseline did not stay healthy and the same during the checks, {_ATTEMPTS} times",
                hint="`spurline baseline status` shows it",
            )
        return trial

    async def _heard(self, case: Case) -> Trial:
        await sound_baseline(self._driver, case.docket.base)
        sandbox = await self._driver.renew(case.sandbox, ttl_s=case.docket.project.settings.baseline.ttl)
        # Whoever killed a fork (the system does where memory is short), nobody is to be judged by it at once.
        dead = {name: Source(commit=case.commit) for name, fork in sandbox.forks.items() if not fork.alive}
        if dead:
            with suppress(ForkError):
                await self._driver.fork(case.sandbox, dead)
        return await self._court.hear(case)

    async def _added(self, docket: Docket, trial: Trial, commit: str) -> dict[str, CheckResult]:
        """What the command checks say with the files that the change adds beside them: evidence that never decides."""
        found: dict[str, CheckResult] = {}
        if not trial.facts.scope.added:
            return found
        target = Target.of(trial.sandbox, docket.system.entry)
        for item in docket.items:
            if isinstance(item.check, CommandCheck):
                async with self._benches.exhibit(commit, docket.project) as bench:
                    cage = bench.cage(network=True)
                    found[item.name] = await run_command(item.check, bench.folder, bench.scratch, target, cage)
        return found

    async def _logs(self, trial: Trial, judgement: Judgement) -> dict[str, tuple[LogLine, ...]]:
        began = [one.decisive.began for one in trial.series if one.item.name in judgement.failing]
        if not began:
            return {}
        since, name = min(began) - _LOG_MARGIN_S, trial.sandbox.name
        services = sorted(trial.sandbox.forks)
        found = await asyncio.gather(*(self._driver.logs(one, sandbox=name, since=since) for one in services))
        return dict(zip(services, found, strict=True))

    async def _conclude(
        self,
        work: Work,
        docket: Docket,
        facts: Facts,
        judgement: Judgement,
        text: str | None,
        *,
        trial: Trial | None = None,
        added: dict[str, CheckResult] | None = None,
        iteration: int = 0,
        began_ms: int | None = None,
    ) -> Verdict:
        heading = Heading(
            run=work.run,
            ticket=work.ticket.id,
            iteration=iteration,
            tree=await self._repository.tree(facts.commit),
            settings_digest=docket.project.settings.digest(),
            sandbox=work.sandbox,
            generation=trial.sandbox.generation if trial is not None else None,
            began_ms=began_ms if began_ms is not None else _now_ms(),
            ended_ms=_now_ms(),
        )
        series = trial.series if trial is not None else ()
        document = document_of(heading, facts, judgement, text, series, added)
        name = await self._archive.save(work.run, work.ticket.id, document)
        feedback = text if judgement.returns else None
        return Verdict(name, judgement.conclusion, judgement.reason, feedback)


async def judge_commit(
    validator: LoopValidator, *, run: str, base: str, commit: str, ticket: Ticket | None = None
) -> Verdict:
    """The loop's validation alone, for a commit that anybody wrote: fork, check, judge, tear down."""
    ticket = ticket or no_ticket()
    sandbox = f"{ticket.id}-{commit[:7]}-{secrets.token_hex(3)}"
    work = Work(run=run, ticket=ticket, branch="", base=base, worktree="", sandbox=sandbox)
    try:
        # Static checks are facts of the verdict like all others: `validate` runs them.
        return await validator.instantiate(work, commit) or await validator.validate(work, commit, 1)
    finally:
        await asyncio.shield(validator.release(work))


def _unasked(docket: Docket, commit: str, scope: ScopeFacts, static: _Static | None) -> Facts:
    """What is known of a commit before anything was forked."""
    return Facts(
        commit=commit,
        base=docket.base,
        judged_from=docket.base,
        judges_intact=True,
        scope=scope,
        static=static,
        forks=(),
        checks=(),
        planted=(),
        records=None,
        baseline=None,
        repeat=docket.repeat,
        preserve=docket.ticket.preserve,
    )


def _sources(services: Iterable[str], commit: str) -> dict[str, Source]:
    return {service: Source(commit=commit) for service in sorted(services)}


def _runs(sandbox: Sandbox, service: str, commit: str) -> bool:
    fork = sandbox.forks.get(service)
    return fork is not None and fork.commit == commit and fork.alive


def _now_ms() -> int:
    return round(time.time() * 1000)
