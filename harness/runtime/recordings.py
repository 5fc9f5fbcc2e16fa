"""What `run --record` leaves behind: one recording a ticket, whole or not at all, never in the place of another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graphs.ports import attempt_name
from harness.project import Project
from harness.runtime.connections import Narrator
from tasks.errors import SpurlineError, UsageError

if TYPE_CHECKING:
    from harness.store.tables import AgentRow
    from tasks.backlog import Backlog

# What broke off, or went on after its end, is no story that could be played to the same end.
_PLAYABLE: Final = frozenset({"verified", "failed", "unproven", "needs_human"})


def refuse_existing(folder: Path, backlog: Backlog) -> None:
    """UsageError where the folder holds a recording of one of the tickets: it may have been branched by hand."""
    for ticket in backlog:
        if (path := _path(folder, ticket.id)).exists():
            raise UsageError(
                f"--record: there is a recording already: {path}", hint="give another folder, or move the file away"
            )


async def record_run(project: Project, agents: Iterable[AgentRow], folder: Path, narrate: Narrator) -> bool:
    """Write what each agent did that came to an end of its own; whether nothing of it was lost."""
    whole, left_out = True, []
    for agent in agents:
        if agent.state not in _PLAYABLE or agent.carries_on:
            left_out.append(agent.ticket)
            continue
        try:
            if (path := await asyncio.to_thread(_record, project, agent, folder)) is not None:
                narrate(f"recorded {path}")
        except SpurlineError as error:
            whole = False
            narrate(f"warning: not recorded: {agent.ticket}: {error.message}")
    if left_out:
        more = " …" if len(left_out) > 5 else ""
        narrate(f"not recorded, as they came to no end of their own: {', '.join(left_out[:5])}{more}")
    return whole


def _record(project: Project, agent: AgentRow, folder: Path) -> Path | None:
    from harness.agents.rehearsal.record import recording_of, written
    from harness.agents.transcript import current, read
    from harness.submission.files import put

    name = attempt_name(agent.ticket, agent.attempt)
    path = current(project.state / "transcripts", agent.run, name)
    entries = list(read(path)) if path.exists() else []
    if not any(entry.origin == "agent" for entry in entries):
        return None
    worktree = project.state / "worktrees" / agent.run / name
    recording = recording_of(agent.ticket, entries, root=project.root, worktree=worktree)
    path = _path(folder, agent.ticket)
    put(path, written(recording, path).encode())
    return path


def _path(folder: Path, ticket: str) -> Path:
    return folder / f"{ticket}.yaml"
