"""Sandboxes that outlive their ticket: as the user wished it of one, or the settings of whatever is verified.

Both stand in the store, so that whoever tears a ticket down knows, also after its worker was killed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from graphs.ports import Verdict, Work
from harness.store.tables import AgentRow


class KeepingValidator(Protocol):
    """A graphs.ports.Validator that can leave a sandbox alone for a while."""

    async def static(self, work: Work, commit: str) -> str | None: ...
    async def instantiate(self, work: Work, commit: str) -> Verdict | None: ...
    async def validate(self, work: Work, commit: str, iteration: int) -> Verdict: ...
    async def release(self, work: Work, *, keep_s: float = 0.0) -> None:
        """Delete the sandbox, or leave it to live for so long."""
        ...


def kept_s(agent: AgentRow, now: float, *, verified_s: float = 0.0) -> float:
    """For how long the agent's sandbox is to live on; 0: not at all. `verified_s`: that of a verified one at least."""
    # What is torn down while it is submitted was verified, and has only yet to be told.
    verified = verified_s if agent.state in ("submitting", "verified") else 0.0
    return max((agent.keep_until or 0.0) - now, verified, 0.0)


class Keeping:
    """A Validator that leaves sandboxes alone which are to be kept. Implements graphs.ports.Validator."""

    def __init__(
        self,
        inner: KeepingValidator,
        look: Callable[[str], Awaitable[AgentRow]],
        *,
        leave: Callable[[Work], None],
        verified_s: float = 0.0,
    ) -> None:
        """`look` finds the agent of a ticket as it stands in the store, and raises LeaseLost where another worker has
        it; `leave` is told whose sandbox is left alone; `verified_s` as in `kept_s`."""
        self._inner, self._look, self._leave, self._verified_s = inner, look, leave, verified_s

    async def static(self, work: Work, commit: str) -> str | None:
        return await self._inner.static(work, commit)

    async def instantiate(self, work: Work, commit: str) -> Verdict | None:
        return await self._inner.instantiate(work, commit)

    async def validate(self, work: Work, commit: str, iteration: int) -> Verdict:
        return await self._inner.validate(work, commit, iteration)

    async def release(self, work: Work) -> None:
        agent = await self._look(work.ticket.id)
        keep_s = kept_s(agent, time.time(), verified_s=self._verified_s) if agent.attempt == work.attempt else 0.0
        if keep_s > 0:
            self._leave(work)
        await self._inner.release(work, keep_s=keep_s)
