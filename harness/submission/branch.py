"""Submission to a branch: the commit stays where the agent's branch has it, the record is put beside it and attached.

Safe to repeat after a crash at any moment: every effect is journalled before it is tried and looked for before it is
tried again, and the record of one verdict is always the same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from graphs.ports import Work
from harness.repository import Repository
from harness.repository.repository import NOTES
from harness.submission.files import found, put, record_path
from harness.submission.keys import SigningKey
from harness.submission.record import make_record
from tasks.errors import CheckoutError


class Effects(Protocol):
    """The effects journal: intent, then effect, then observed."""

    async def once(
        self,
        kind: str,
        target: str,
        ticket: str,
        act: Callable[[], Awaitable[str]],
        look: Callable[[], Awaitable[str | None]],
    ) -> str:
        """Do `act` unless it was done; after an attempt of unknown outcome ask `look` first. The effect's result."""
        ...


class Documents(Protocol):
    """Where whole verdict documents are kept."""

    async def load(self, name: str) -> dict[str, Any]: ...


class BranchSubmitter:
    """Fulfils `graphs.ports.Submitter`. `state` is the project's `.spurline/`."""

    def __init__(self, repository: Repository, documents: Documents, effects: Effects, state: Path) -> None:
        self._repository, self._documents, self._effects, self._state = repository, documents, effects, state

    async def submit(self, work: Work, commit: str, verdict: str) -> str:
        """Write the record and attach it to the commit; `branch NAME`.

        CheckoutError unless the verdict is 'verified', of exactly this commit, and the branch is at it.
        """
        document = await self._documents.load(verdict)
        await self._agreed(work, commit, document)
        key = await asyncio.to_thread(SigningKey.of, self._state / "keys")
        record = make_record(document, key)
        path = record_path(self._state, work.run, work.ticket.id)
        target = f"{work.run}/{work.ticket.id}/{commit}"
        await self._effects.once(
            "record",
            target,
            work.ticket.id,
            lambda: asyncio.to_thread(put, path, record),
            lambda: asyncio.to_thread(found, path, record),
        )
        await self._effects.once(
            "note",
            target,
            work.ticket.id,
            lambda: self._attach(commit, record),
            lambda: self._attached(commit, record),
        )
        return f"branch {work.branch}"

    async def _agreed(self, work: Work, commit: str, document: Mapping[str, Any]) -> None:
        said = tuple(document.get(name) for name in ("run", "ticket", "base", "commit", "conclusion"))
        if said != (work.run, work.ticket.id, work.base, commit, "verified"):
            raise CheckoutError(
                f"the verdict is not 'verified' for commit {commit[:12]} of ticket {work.ticket.id!r}",
                hint="retry the ticket: only what was judged is handed over",
            )
        head = await self._repository.branch(work.branch)
        if head != commit or document.get("tree") != await self._repository.tree(commit):
            raise CheckoutError(
                f"branch {work.branch!r} is at {(head or 'nothing')[:12]} and no longer at {commit[:12]}, "
                "which was verified",
                hint=f"`git branch -f {work.branch} {commit[:12]}` puts it back",
            )

    async def _attach(self, commit: str, record: bytes) -> str:
        await self._repository.attach_note(commit, record)
        return NOTES

    async def _attached(self, commit: str, record: bytes) -> str | None:
        return NOTES if await self._repository.note(commit) == record else None
