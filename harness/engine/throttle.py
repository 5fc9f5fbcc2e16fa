"""Limits around the ports: how many forks start, sandboxes come and go, and checks run, at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any, Final

from graphs.ports import Validator, Verdict, Work, Workspaces
from harness.engine.gates import Gate, StandStill
from sandbox.driver import Driver, Sandbox, Source
from tasks.ticket import Ticket

_WORKTREES: Final = 8
"""Made at once. The repository's lock lets in one after the other, and a commit must not wait behind all that begin."""
_ROOM_S: Final = 0.05
"""How often it is looked whether there is room for one more sandbox."""


class ThrottledValidator:
    """A Validator that waits for a place before it runs anything heavy. Letting go never waits here."""

    def __init__(self, inner: Validator, checks: Gate) -> None:
        self._inner, self._checks = inner, checks

    async def static(self, work: Work, commit: str) -> str | None:
        async with self._checks.place(work.ticket.id):
            return await self._inner.static(work, commit)

    async def instantiate(self, work: Work, commit: str) -> Verdict | None:
        return await self._inner.instantiate(work, commit)

    async def validate(self, work: Work, commit: str, iteration: int) -> Verdict:
        async with self._checks.place(work.ticket.id):
            return await self._inner.validate(work, commit, iteration)

    async def release(self, work: Work) -> None:
        await self._inner.release(work)


class ThrottledDriver:
    """A Driver whose calls that start or end processes wait for a place; all others are the driver's own.

    Creating and deleting have gates of their own: a machine that is full must be able to let go. And no ticket is given
    a sandbox while as many have one and wait for their checks as may be checked at once. Hundreds more could only wait
    as well, and each takes the memory of its forks.
    """

    def __init__(
        self,
        inner: Driver,
        gates: Mapping[str, Gate],
        workspaces: TrackedWorkspaces,
        ahead: Gate,
        standing: StandStill = lambda ticket: nullcontext(),
    ) -> None:
        """Through `ahead` goes, one at a time, who is to have a sandbox; the time of who waits is `standing`."""
        self._inner, self._gates, self._workspaces = inner, gates, workspaces
        self._ahead, self._standing = ahead, standing
        self._housed: set[str] = set()
        """Tickets that were given a sandbox."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def create(self, name: str, *, ttl_s: float, sources: Mapping[str, Source] | None = None) -> Sandbox:
        owner = self._workspaces.owner(name)
        async with AsyncExitStack() as places:
            async with self._room(owner, name):
                await places.enter_async_context(self._gates["sandboxes"].place(owner))
                if sources:
                    await places.enter_async_context(self._gates["forks"].place(owner))
            sandbox = await self._inner.create(name, ttl_s=ttl_s, sources=sources)
        if owner != name:
            self._housed.add(owner)
        return sandbox

    async def fork(self, name: str, sources: Mapping[str, Source]) -> Sandbox:
        async with self._gates["forks"].place(self._workspaces.owner(name)):
            return await self._inner.fork(name, sources)

    async def delete(self, name: str) -> None:
        owner = self._workspaces.owner(name)
        async with self._gates["deletions"].place(owner):
            await self._inner.delete(name)
        self._housed.discard(owner)

    @asynccontextmanager
    async def _room(self, owner: str, name: str) -> AsyncIterator[None]:
        if owner == name:
            # The checks themselves have it made, and those that wait for them wait for it.
            yield
            return
        async with self._ahead.place(owner):
            checks = self._gates["checks"]
            with self._standing(owner):
                while sum(ticket in self._housed for ticket in checks.queue) >= checks.limit:  # noqa: ASYNC110
                    await asyncio.sleep(_ROOM_S)
            yield


class TrackedWorkspaces:
    """Workspaces that know which work is out: whose lease is to be renewed, what is left when a ticket breaks off."""

    def __init__(self, inner: Workspaces, standing: StandStill = lambda ticket: nullcontext()) -> None:
        """The time of a ticket that waits until its worktree can be made is `standing`."""
        self._inner, self._making = inner, Gate("worktrees", _WORKTREES, standing=standing)
        self.out: dict[str, Work] = {}
        """By ticket."""
        self._owners: dict[str, str] = {}
        self._left: set[str] = set()
        """Sandboxes that live on by a lease of their own."""

    def renews(self, work: Work) -> bool:
        """Whether the lease of its sandbox is to be renewed."""
        return self.out.get(work.ticket.id) == work and work.sandbox not in self._left

    def leave(self, work: Work) -> None:
        """Its sandbox has been given the lease that it is to have: to renew it could only make it shorter."""
        self._left.add(work.sandbox)

    def owner(self, sandbox: str) -> str:
        """The ticket whose sandbox it is; the sandbox itself where it is no ticket's."""
        return self._owners.get(sandbox, sandbox)

    def sandboxes(self) -> frozenset[str]:
        """The names of all sandboxes of what is out."""
        return frozenset(self._owners)

    async def prepare(self, run: str, ticket: Ticket, attempt: int = 1, carries_on: int = 0) -> Work:
        async with self._making.place(ticket.id):
            work = await self._inner.prepare(run, ticket, attempt, carries_on)
        self.out[ticket.id] = work
        self._owners[work.sandbox] = ticket.id
        self._left.discard(work.sandbox)
        return work

    async def commit(self, work: Work, message: str) -> str | None:
        return await self._inner.commit(work, message)

    async def knows(self, commit: str) -> bool:
        return await self._inner.knows(commit)

    async def tree(self, commit: str) -> str:
        return await self._inner.tree(commit)

    async def release(self, work: Work) -> None:
        await self._inner.release(work)
        self.out.pop(work.ticket.id, None)
        self._owners.pop(work.sandbox, None)
        self._left.discard(work.sandbox)
