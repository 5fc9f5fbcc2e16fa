"""Static checks: the project's own linters, type checkers and unit tests, on the commit's own files.

They see what the change brought, so they can fail it and never verify it. What does not pass on the base commit either
is not the change's fault.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.commands import Finished, run, scrubbed_env
from harness.project import Project
from harness.validation.bench import Benches
from harness.validation.facts import StaticFacts
from harness.validation.once import Once
from harness.validation.results import Outcome
from sandbox.confinement import Cage, readable_caches
from sandbox.exchanges import redact
from tasks.text import capped, one_line, plain

_TIMEOUT_S: Final = 600.0
_OUTPUT_LIMIT: Final = 5_000


@dataclass(frozen=True, slots=True)
class _Answer:
    outcome: Outcome
    detail: str
    output: str


class StaticChecks:
    """Runs the static checks of the base commit's settings; what they say of the base is asked once."""

    def __init__(self, benches: Benches) -> None:
        self._benches = benches
        self._bases: Once[tuple[str, str], _Answer] = Once()

    async def check(self, project: Project, base: str, commit: str) -> tuple[tuple[StaticFacts, ...], str]:
        """What they say of the commit, and the output of those that speak against it."""
        commands = project.settings.checks.static
        if not commands:
            return (), ""
        facts, outputs = [], []
        async with self._benches.exhibit(commit, project) as bench:
            for command in commands:
                answer = await _ask(command, bench.folder, bench.scratch, _cage(bench.cage(network=False)))
                old = None if answer.outcome == "pass" else (await self._on_base(project, base, command)).outcome
                facts.append(StaticFacts(command, answer.outcome, old, answer.detail))
                if old == "pass":
                    outputs.append(f"$ {command}\n{answer.output}\n({answer.detail})")
        return tuple(facts), "\n\n".join(outputs)

    async def in_folder(self, project: Project, folder: Path) -> str:
        """What they say of a folder as it stands, as text: for an agent that asks before it hands in."""
        said = []
        async with self._benches.scratch(folder, project) as (scratch, cage):
            for command in project.settings.checks.static:
                answer = await _ask(command, folder, scratch, _cage(cage))
                said.append(f"$ {command}\n{answer.output}\n({answer.detail or 'passes'})")
        return "\n\n".join(said) or "no static checks are configured"

    async def aclose(self) -> None:
        await self._bases.aclose()

    async def _on_base(self, project: Project, base: str, command: str) -> _Answer:
        async def ask() -> _Answer:
            async with self._benches.exhibit(base, project) as bench:
                return await _ask(command, bench.folder, bench.scratch, _cage(bench.cage(network=False)))

        return await self._bases.get((base, command), ask, name=f"static check of {base[:12]}")


def _cage(cage: Cage) -> Cage:
    """The cage, with what compilers find there. Checks that can verify see none of it: builds of forks write to it."""
    return replace(cage, readable=(*cage.readable, *readable_caches(os.environ)))


async def _ask(command: str, folder: Path, scratch: Path, cage: Cage) -> _Answer:
    env = scrubbed_env({"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(scratch), "NO_COLOR": "1"})
    finished = await run(["/bin/sh", "-c", command], cwd=folder, env=env, timeout_s=_TIMEOUT_S, cage=cage)
    # The folder's name changes from run to run and says nothing.
    output = redact(plain(finished.output)).replace(f"{folder}/", "").strip()
    outcome, detail = _judge(finished, output)
    return _Answer(outcome, one_line(detail, 300), capped(output, _OUTPUT_LIMIT))


def _judge(finished: Finished, output: str) -> tuple[Outcome, str]:
    last = output.splitlines()[-1] if output else "no output"
    if finished.code == 0:
        return "pass", ""
    if finished.code is None:
        return "unjudged", f"not done within {_TIMEOUT_S:g} s"
    if finished.code in (126, 127) or finished.code > 128:
        return "unjudged", f"could not run (exit status {finished.code}): {last}"
    return "fail", f"exit status {finished.code}: {last}"
