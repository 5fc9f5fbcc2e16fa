"""The supervisor of a run: starts tickets as slots and dependencies allow, and accounts for each exactly once.

One ticket's failure never touches another one. A ticket ends in a final state, or the run was interrupted and the
ticket keeps the state in which it was. A dependency that is not part of the run is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from graphs.loop import TicketLoop, work_ticket
from graphs.ports import Ports, Submitter, Work
from harness.engine.pool import Pool
from harness.engine.throttle import TrackedWorkspaces
from harness.store.journal import IllegalMove
from sandbox.driver import Driver
from tasks.errors import EnvironmentFault, SpurlineError, disk_is_full
from tasks.states import FinalState, is_final
from tasks.text import one_line
from tasks.ticket import Ticket


@dataclass(frozen=True, slots=True)
class Ending:
    """How one ticket ended."""

    ticket: str
    state: FinalState
    environment: bool = False
    """Whether the environment was at fault."""


class _Unhurried:
    """A Submitter that the ticket's clock does not cut: either it is not begun any more, or the clock stands still from
    then on, and the ticket ends as what was handed over says."""

    def __init__(self, inner: Submitter, clocks: Mapping[str, asyncio.Timeout]) -> None:
        self._inner, self._clocks = inner, clocks

    async def submit(self, work: Work, commit: str, verdict: str) -> str:
        clock = self._clocks[work.ticket.id]
        if clock.expired():
            # The ticket is being cancelled, and this node has yet to hear of it.
            raise TimeoutError
        clock.reschedule(None)
        return await self._inner.submit(work, commit, verdict)


class Supervisor:
    """Works one backlog. Owns no connection: what it is given outlives it."""

    def __init__(
        self,
        *,
        run: str,
        loop: TicketLoop,
        ports: Ports,
        workspaces: TrackedWorkspaces,
        driver: Driver,
        agents: int,
        ticket_s: float,
        ttl_s: float,
        on_crash: Callable[[str, str], None],
    ) -> None:
        self._clocks: dict[str, asyncio.Timeout] = {}
        """Of the tickets at work: what ends each when its time is over."""
        self._run, self._loop = run, loop
        self._ports = replace(ports, submitter=_Unhurried(ports.submitter, self._clocks))
        self._workspaces, self._driver = workspaces, driver
        self._agents, self._ticket_s, self._ttl_s = agents, ticket_s, ttl_s
        self._on_crash = on_crash
        """Told the ticket (or what else was at work) and the traceback of a defect of ours."""
        self._tickets: frozenset[str] = frozenset()
        self._endings: dict[str, Ending] = {}
        self._fatal: Exception | None = None
        self._changed = asyncio.Condition()

    async def work(self, tickets: Sequence[Ticket]) -> tuple[Ending, ...]:
        """Take every ticket to its end. Cancelled from outside, it lets go of all that is out and re-raises.

        Raises StoreError where an ending could not be noted.
        """
        self._tickets = frozenset(ticket.id for ticket in tickets)
        async with self._leases(), Pool(self._agents) as pool:
            waiting = list(tickets)
            while waiting:
                ticket = await self._next(waiting)
                waiting.remove(ticket)
                await pool.start(lambda ticket=ticket: self._guarded(ticket), f"ticket {ticket.id}")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            async with self._changed:
                await self._changed.wait_for(lambda: self._fatal or len(self._endings) == len(tickets))
            self._stop_if_fatal()
        return tuple(self._endings[ticket.id] for ticket in tickets)

    async def _next(self, waiting: list[Ticket]) -> Ticket:
        """The first ticket whose dependencies have ended; waits where all wait."""
        async with self._changed:
            while True:
                self._stop_if_fatal()
                for ticket in waiting:
                    if all(wanted in self._endings for wanted in self._awaited(ticket)):
                        return ticket
                await self._changed.wait()

    def _awaited(self, ticket: Ticket) -> tuple[str, ...]:
        return tuple(wanted for wanted in ticket.depends if wanted in self._tickets)

    async def _guarded(self, ticket: Ticket) -> None:
        try:
            self._endings[ticket.id] = await self._take(ticket)
        except Exception as error:  # not even the ending could be noted: the run cannot go on
            self._fatal = error
        async with self._changed:
            self._changed.notify_all()

    def _stop_if_fatal(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    async def _take(self, ticket: Ticket) -> Ending:
        blocked = [wanted for wanted in self._awaited(ticket) if self._endings[wanted].state != "verified"]
        if blocked:
            return await self._end(ticket, "cancelled", f"it depends on {blocked[0]!r}, which was not verified")
        limit = self._clocks[ticket.id] = asyncio.timeout(self._ticket_s)
        try:
            async with limit:
                state = await work_ticket(self._loop, self._ports, self._run, ticket.id)
            return Ending(ticket.id, state["outcome"])
        except SpurlineError as error:
            environment = isinstance(error, EnvironmentFault)
            return await self._end(ticket, "error", one_line(error.message, 500), environment=environment)
        except Exception as error:  # the boundary of one ticket: its defect must not end its neighbours
            # A port's own TimeoutError is a defect, unless it is this ticket's time that is over.
            if isinstance(error, TimeoutError) and limit.expired():
                return await self._end(ticket, "failed", f"out of budget: {self._ticket_s / 60:g} minutes are over")
            if isinstance(error, OSError) and disk_is_full(error):
                reason = f"the disk is full: {error.filename or 'that of .spurline/ or of the temporary files'}"
                return await self._end(ticket, "error", reason, environment=True)
            self._on_crash(ticket.id, traceback.format_exc())
            return await self._end(ticket, "error", f"a defect of Spurline: {one_line(repr(error), 300)}")
        finally:
            del self._clocks[ticket.id]
            await self._let_go(ticket)

    async def _end(self, ticket: Ticket, state: FinalState, reason: str, *, environment: bool = False) -> Ending:
        try:
            await self._ports.journal.move(ticket.id, state, reason)
        except IllegalMove as illegal:
            # It ended by itself in the moment in which it was to be ended: that end is noted, and holds.
            if not is_final(illegal.old):
                raise
            return Ending(ticket.id, cast(FinalState, illegal.old))
        return Ending(ticket.id, state, environment)

    async def _let_go(self, ticket: Ticket) -> None:
        """Release what a ticket that broke off still holds; its lease ends what cannot be released."""
        work = self._workspaces.out.get(ticket.id)
        if work is None:
            return
        await self._quietly(self._ports.validator.release(work), ticket.id)
        await self._quietly(self._workspaces.release(work), ticket.id)

    async def _quietly(self, effort: Awaitable[object], of: str) -> None:
        """Wait for what may fail without harm: only a defect is told."""
        try:
            await effort
        except SpurlineError:
            pass
        except Exception:  # the boundary of a clean-up: it must not change how a ticket ended, nor end the run
            self._on_crash(of, traceback.format_exc())

    @contextlib.asynccontextmanager
    async def _leases(self) -> AsyncIterator[None]:
        async def renew_for_ever() -> None:
            while True:
                await asyncio.sleep(self._ttl_s / 3)
                await self.renew()

        task = asyncio.ensure_future(renew_for_ever())
        task.set_name("leases")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def renew(self) -> None:
        """Renew the baseline's lease and those of all sandboxes at work: one round."""
        await self._quietly(self._driver.hold(lease_s=self._ttl_s), "leases")
        for work in tuple(self._workspaces.out.values()):
            await self._quietly(self._driver.renew(work.sandbox, ttl_s=self._ttl_s), "leases")
