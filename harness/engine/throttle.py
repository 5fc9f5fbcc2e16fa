"""Limits around the ports: how many forks start, and how many agents' checks run, at the same time."""

from __future__ import annotations

import asyncio

from graphs.ports import Validator, Verdict, Work, Workspaces
from tasks.ticket import Ticket


class ThrottledValidator:
    """A Validator that waits for a place before it starts something heavy. Letting go never waits."""

    def __init__(self, inner: Validator, *, forks: int, checks: int) -> None:
        self._inner = inner
        self._forks = asyncio.Semaphore(forks)
        self._checks = asyncio.Semaphore(checks)

    async def static(self, work: Work, commit: str) -> str | None:
        async with self._checks:
            return await self._inner.static(work, commit)

    async def instantiate(self, work: Work, commit: str) -> Verdict | None:
        async with self._forks:
            return await self._inner.instantiate(work, commit)

    async def validate(self, work: Work, commit: str, iteration: int) -> Verdict:
        async with self._checks:
            return await self._inner.validate(work, commit, iteration)

    async def release(self, work: Work) -> None:
        await self._inner.release(work)


class TrackedWorkspaces:
    """Workspaces that know which work is out: whose lease is to be renewed, what is left when a ticket breaks off."""

    def __init__(self, inner: Workspaces) -> None:
        self._inner = inner
        self.out: dict[str, Work] = {}
        """By ticket."""

    async def prepare(self, run: str, ticket: Ticket) -> Work:
        work = await self._inner.prepare(run, ticket)
        self.out[ticket.id] = work
        return work

    async def commit(self, work: Work, message: str) -> str | None:
        return await self._inner.commit(work, message)

    async def release(self, work: Work) -> None:
        await self._inner.release(work)
        self.out.pop(work.ticket.id, None)
