"""What the untouched baseline says: to each check, and to being forked. Asked once a version, shared by all agents.

Each is asked through a sandbox without forks, so that the way of a request is the very same as later with forks. A red
result counts as red only when it holds and the environment was sound around it; everything else is 'cannot be judged'.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Final

from harness.validation.bench import Docket, Item
from harness.validation.examiner import Examiner
from harness.validation.once import Once
from harness.validation.results import BaselineResults, CheckResult
from harness.validation.targets import Target
from harness.validation.windows import failures, record_facts, seen_in
from sandbox.driver import Baseline, Driver, Sandbox, Source
from tasks.errors import BaselineError, ForkError

_TTL_MARGIN_S: Final = 120.0
_FORK_TTL_S: Final = 1800.0
"""Long enough for a build."""
_PROBE: Final = re.compile(r"probe\..+\.[0-9a-f]{12}")


class BaselineBook:
    """Answers from memory, from the store, or by asking; many who ask at once wait for one."""

    def __init__(self, driver: Driver, store: BaselineResults, examiner: Examiner) -> None:
        self._driver, self._store, self._examiner = driver, store, examiner
        self._results: Once[tuple[str, str], CheckResult] = Once()
        self._forked: Once[tuple[str, str], ForkError | None] = Once()

    async def result(self, docket: Docket, item: Item) -> CheckResult:
        """What the check says of the baseline. BaselineError when the baseline was not sound meanwhile."""
        key, name = (docket.base, item.digest), f"baseline result of {item.name}"
        return await self._results.get(key, lambda: self._find(docket, item), name=name)

    def knows(self, docket: Docket, item: Item) -> bool:
        """Whether `result` need not ask any more."""
        return self._results.knows((docket.base, item.digest))

    async def confirm(self, docket: Docket, items: Sequence[Item], services: Iterable[str]) -> dict[str, CheckResult]:
        """Ask once more, now, with `services` forked from the untouched code; results by name of item. A check that is
        green then was not turned by the change: somebody left data behind that made it red or makes it green, or a
        process that has just begun is all it takes."""
        ttl_s = _FORK_TTL_S + sum(item.check.timeout for item in items)
        async with self._sandbox("untouched", ttl_s=ttl_s) as sandbox:
            # What the untouched code cannot be forked from is asked as it runs in the baseline.
            with contextlib.suppress(ForkError):
                sandbox = await self._driver.fork(sandbox.name, {one: Source(commit=docket.base) for one in services})
            return {item.name: await self._asked_in(sandbox, docket, item) for item in items}

    async def blame(self, base: str, error: ForkError) -> None:
        """Whose fault it is that a fork did not start. BaselineError where one of the base commit's own code does not
        start either (it wants a fixed port, or something that a fork may not reach): the change has no part in it."""
        key, name = (base, error.service), f"fork of the untouched {error.service}"
        untouched = await self._forked.get(key, lambda: self._fork(base, error.service), name=name)
        if untouched is not None:
            said = "".join(f"\n  | {line}" for line in untouched.log)
            raise BaselineError(
                f"{error.service!r} cannot be forked, the untouched code neither: {untouched.message}{said}",
                hint=f"`spurline sandbox create NAME --fork {error.service}` shows it: a fork starts beside the"
                f" baseline, at another port, and confined unless {error.service!r} has `confine: false`",
            )

    async def aclose(self) -> None:
        await self._results.aclose()
        await self._forked.aclose()

    async def _find(self, docket: Docket, item: Item) -> CheckResult:
        kept = await self._store.get(docket.base, item.digest)
        # Without the tests that ran, as an earlier version kept it, it could be held beside nothing.
        if kept is not None and "passed_tests" in kept:
            return CheckResult.from_json(kept)
        result = await self._ask(docket, item)
        if result.outcome != "unjudged":
            # What could not run may run the next time.
            await self._store.put(docket.base, item.digest, result.to_json())
        return result

    async def _ask(self, docket: Docket, item: Item) -> CheckResult:
        await sound_baseline(self._driver, docket.base)
        result = await self._once(docket, item)
        # A pass proves nothing of the ticket anyway; a failure must hold.
        for _ in range(docket.repeat - 1):
            if result.outcome != "fail":
                break
            again = await self._once(docket, item)
            if again.passed:
                detail = f"flaky on the baseline: it passed after {result.detail!r}"
                result = replace(again, outcome="unjudged", detail=detail, flaky=True)
            else:
                result = again
        await sound_baseline(self._driver, docket.base)
        return result

    async def _once(self, docket: Docket, item: Item) -> CheckResult:
        async with self._sandbox(item.digest[:8], ttl_s=item.check.timeout + _TTL_MARGIN_S) as sandbox:
            return await self._asked_in(sandbox, docket, item)

    async def _asked_in(self, sandbox: Sandbox, docket: Docket, item: Item) -> CheckResult:
        since = await self._driver.cursor()
        target = Target.of(sandbox, docket.system.entry)
        result = await self._examiner.examine(item, target, docket.base)
        window = await self._driver.window(sandbox.name, since)
        generations = {name: fork.generation for name, fork in sandbox.forks.items()}
        result = replace(result, failures=failures(window), seen=seen_in(window, result, ()))
        records = record_facts([window], generations)
        if result.outcome == "fail" and not records.clean:
            at = f" ({', '.join(records.where)})" if records.where else ""
            detail = f"not all of its requests were recorded and answered{at}: {result.detail}"
            return replace(result, outcome="unjudged", detail=detail)
        return result

    async def _fork(self, base: str, service: str) -> ForkError | None:
        await sound_baseline(self._driver, base)
        async with self._sandbox(service, ttl_s=_FORK_TTL_S) as sandbox:
            try:
                await self._driver.fork(sandbox.name, {service: Source(commit=base)})
            except ForkError as error:
                return error
        return None

    @contextlib.asynccontextmanager
    async def _sandbox(self, of: str, *, ttl_s: float) -> AsyncIterator[Sandbox]:
        """A sandbox for one question, deleted when it is answered, or cannot be."""
        sandbox = await self._driver.create(_probe_name(of), ttl_s=ttl_s)
        try:
            yield sandbox
        finally:
            await asyncio.shield(self._driver.delete(sandbox.name))


def is_probe(sandbox: str) -> bool:
    """Whether a sandbox of this name was made here, to ask the baseline something: no agent's, and no user's."""
    return _PROBE.fullmatch(sandbox) is not None


def _probe_name(of: str) -> str:
    return f"probe.{of}.{secrets.token_hex(6)}"


async def sound_baseline(driver: Driver, base: str) -> Baseline:
    """The running baseline; BaselineError unless it is healthy and runs `base`."""
    baseline = await driver.baseline()
    if baseline is None:
        raise BaselineError("no baseline is up", hint="`spurline baseline up` starts it")
    if baseline.version != base:
        raise BaselineError(
            f"the baseline runs {baseline.version[:12]}, the change is based on {base[:12]}",
            hint="`spurline baseline down`, then start the run again: it brings up what it needs",
        )
    sick = [name for name, running in baseline.services.items() if not running.healthy]
    if sick or not baseline.healthy:
        raise BaselineError(
            f"the baseline is sick: {', '.join(sick) or 'it does not answer'}",
            hint="`spurline baseline status` shows it; `spurline baseline down` and `up` start it anew",
        )
    return baseline
