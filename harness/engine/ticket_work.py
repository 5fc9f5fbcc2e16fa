"""The work on single tickets: each is taken through the loop, and what became of it is noted.

A ticket ends, or is given back where it stands. Whatever it still holds then is let go of, which nothing breaks off.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from graphs.loop import TicketLoop, work_ticket
from graphs.nodes.tear_down import what_came
from graphs.ports import LeaseLost, Ports, Stopped, Submitter, Work
from graphs.state import TicketState
from harness.engine.breakers import Breaker
from harness.engine.clock import TicketClock
from harness.engine.limits import Limits
from harness.engine.outlook import AFTER_FAULT
from harness.engine.throttle import TrackedWorkspaces
from harness.store.claims import Claims
from harness.store.journal import IllegalMove
from harness.store.standings import LONGEST_WAIT_S, Standing, waits
from tasks.errors import EnvironmentFault, ModelError, SpurlineError, StoreError, disk_is_full
from tasks.states import FINAL_STATES, AgentState, FinalState, is_final
from tasks.text import one_line

_NEEDS: Final[Mapping[str, str]] = {"generate": "model", "instantiate": "baseline", "validate": "baseline"}
"""Which breaker each step waits for."""
LOOK_S: Final = 0.5
"""How often it is looked whether work is to stop, or to start."""


class Standings(dict[str, Standing]):
    """Where all tickets of the run stand, as far as this worker knows."""

    stale = True
    """Whether somebody else may have moved them since they were read."""

    def change(self, ticket: str, **changes: Any) -> None:
        """Note what happened to a ticket."""
        self[ticket] = replace(self[ticket], **changes)


class _Unhurried:
    """A Submitter that the ticket's clock does not cut: either it is not begun any more, or the clock stands still from
    then on, and the ticket ends as what was handed over says."""

    def __init__(self, inner: Submitter, clocks: Mapping[str, TicketClock]) -> None:
        self._inner, self._clocks = inner, clocks

    async def submit(self, work: Work, commit: str, verdict: str) -> str:
        self._clocks[work.ticket.id].stand_still()
        return await self._inner.submit(work, commit, verdict)


class TicketWork:
    """Takes tickets of one run through the loop, any number at once, each that this worker has claimed."""

    def __init__(
        self,
        *,
        run: str,
        loop: TicketLoop,
        ports: Ports,
        claims: Claims,
        workspaces: TrackedWorkspaces,
        limits: Limits,
        breakers: Mapping[str, Breaker],
        standings: Standings,
        on_crash: Callable[[str, str], None],
        taken_up: Callable[[str], Awaitable[None]],
        rest: Callable[[str], None],
        faults: int,
    ) -> None:
        """See Supervisor."""
        self._run, self._loop, self._claims = run, loop, claims
        self.clocks: dict[str, TicketClock] = {}
        """Of the tickets that are taken through the loop: those that can be broken off."""
        self._ports = replace(ports, submitter=_Unhurried(ports.submitter, self.clocks), admit=self._admit)
        self._workspaces, self._limits, self._breakers = workspaces, limits, breakers
        self._standings, self._on_crash, self._faults = standings, on_crash, faults
        self._taken_up, self._rest = taken_up, rest
        self.stopping: dict[str, str] = {}
        """Tickets at work that are to stop, and why: `paused`, `cancelled`, or `lost` to another worker."""
        self.draining = False
        """Whether all of them are to stop."""
        self._answers = 0
        self._unanswered: dict[str, int] = {}
        """Tickets that the model gave no answer since: how many it had given all of them by then."""

    async def take(self, ticket: str) -> None:
        standing = self._standings[ticket]
        clock = TicketClock(self._limits.ticket_s(ticket) - standing.worked_s, standing.worked_s)
        try:
            await self._worked(ticket, standing, clock)
        except LeaseLost:
            await self._forget(ticket, clock)
        finally:
            await self._let_go(ticket, clock)

    async def _worked(self, ticket: str, standing: Standing, clock: TicketClock) -> None:
        """Work on the ticket, and note what became of it. LeaseLost where it is somebody else's by now."""
        try:
            state = await self._through(ticket, standing, clock)
            # Where it had ended before it was taken up, only its row does not know yet.
            await self._noted(ticket, state)
        except Stopped:
            await self._stopped(ticket)
        except LeaseLost:
            raise
        except asyncio.CancelledError:
            match self.stopping.get(ticket):
                case "cancelled":
                    await self.end(ticket, "cancelled", "cancelled by the user")
                case "lost":
                    raise LeaseLost(ticket) from None
                case _:
                    raise
        except Exception as error:  # the boundary of one ticket: its defect must not end its neighbours
            await self._broken(ticket, error, clock)

    async def _through(self, ticket: str, standing: Standing, clock: TicketClock) -> TicketState:
        """Take the ticket through the loop. Only in here it can be broken off, and never as it is let go of."""
        self.clocks[ticket] = clock
        try:
            async with clock:
                if standing.state == "submitting":
                    # The submission was begun before: see _Unhurried.
                    clock.stand_still()
                await self._taken_up(ticket)
                try:
                    return await self._looped(ticket, standing)
                except IllegalMove as illegal:
                    await self._catch_up(ticket, illegal)
                    clock.stand_still()
                    return await self._looped(ticket, standing)
        finally:
            del self.clocks[ticket]
            self._rest(ticket)

    async def _looped(self, ticket: str, standing: Standing) -> TicketState:
        return await work_ticket(
            self._loop, self._ports, self._run, ticket, standing.attempt, carries_on=standing.carries_on
        )

    async def _catch_up(self, ticket: str, illegal: IllegalMove) -> None:
        """Put a row right that fell behind in a loss of power, where its ticket's position, which lies in another file,
        knows that it was handed over. IllegalMove where it is anything else."""
        if illegal.new != "verified" or is_final(illegal.old):
            raise illegal
        await self._move(ticket, "submitting", "")

    async def _noted(self, ticket: str, state: TicketState) -> None:
        """Note the end of a ticket, where its row does not know it."""
        end = state["outcome"], state["reason"], what_came(state)
        try:
            await self.end(ticket, *end)
        except IllegalMove as illegal:
            await self._catch_up(ticket, illegal)
            await self.end(ticket, *end)

    async def _forget(self, ticket: str, clock: TicketClock) -> None:
        """Somebody else works on it: nothing of it is ours any more. What was only taken for lost, since this process
        stood still, is free again."""
        self._workspaces.out.pop(ticket, None)
        await self._claims.give_back(ticket, worked_s=clock.worked_s)
        self._standings.stale = True

    async def _stopped(self, ticket: str) -> None:
        if self.stopping.get(ticket) == "paused":
            await self._move(ticket, "paused", "paused by the user")

    async def _broken(self, ticket: str, error: Exception, clock: TicketClock) -> None:
        if isinstance(error, StoreError):
            # What happens to a ticket cannot be noted any more.
            raise error
        if isinstance(error, ModelError) and error.of_all:
            # It would end every ticket of the run, one after the other.
            way_out = f"{error.hint}; then `spurline runs resume {self._run}` goes on"
            raise ModelError(error.message, hint=way_out, transient=False, of_all=True) from error
        if isinstance(error, EnvironmentFault) and error.transient:
            await self._faulted(ticket, error, clock)
        elif isinstance(error, SpurlineError):
            environment = isinstance(error, EnvironmentFault)
            await self.end(ticket, "error", one_line(error.message, 500), environment=environment)
        # A port's own TimeoutError is a defect, unless it is this ticket's time that is over.
        elif isinstance(error, TimeoutError) and clock.expired:
            await self.end(ticket, "failed", f"out of budget: {self._limits.ticket_s(ticket) / 60:g} minutes are over")
        elif isinstance(error, OSError) and disk_is_full(error):
            # No ticket gets any further on a full disk; the run can be taken up again when there is room.
            place = error.filename or "that of .spurline/ or of the temporary files"
            raise StoreError(f"the disk is full: {place}", hint="free some space") from error
        else:
            self._on_crash(ticket, "".join(traceback.format_exception(error)))
            await self.end(ticket, "error", f"a defect of Spurline: {one_line(repr(error), 300)}")

    async def _faulted(self, ticket: str, error: EnvironmentFault, clock: TicketClock) -> None:
        """The environment broke a step off: the ticket tries it again later, and nothing of that is the agent's."""
        counts = not isinstance(error, ModelError) or self._alone_unanswered(ticket)
        times, reason = self._standings[ticket].faults + counts, one_line(error.message, 500)
        self._ports.journal.emit("agent.fault", ticket, {"times": times, "code": error.code, "reason": reason})
        self._breakers["model" if isinstance(error, ModelError) else "baseline"].trip(reason)
        if counts and times > self._faults:
            await self.end(ticket, "error", reason, environment=True)
            return
        wait_s = min(2.0 ** max(times - 1, 0), LONGEST_WAIT_S)
        await self._give_back(ticket, clock, wait_s=wait_s, fault=counts, reason=f"{AFTER_FAULT}: {reason}")
        self._standings.change(ticket, faults=times, not_before=time.time() + wait_s)

    def excuse(self, ticket: str, seconds: float) -> None:
        """So much of the ticket's time does not count."""
        if (clock := self.clocks.get(ticket)) is not None:
            clock.excuse(seconds)

    def answered(self, ticket: str) -> None:
        """The model gave the ticket a whole answer."""
        self._answers += 1
        self._unanswered.pop(ticket, None)

    def _alone_unanswered(self, ticket: str) -> bool:
        """Whether the model has answered others since it last gave this ticket no answer. One that answers nobody is
        gone, and no ticket's fault, even where there is but one: the breaker holds it, and ends the run in the end."""
        before = self._unanswered.get(ticket)
        self._unanswered[ticket] = self._answers
        return before is not None and self._answers > before

    async def end(
        self,
        ticket: str,
        state: FinalState,
        reason: str,
        came: Mapping[str, Any] = MappingProxyType({}),
        *,
        environment: bool = False,
    ) -> None:
        data = {**came, "environment": True} if environment else came
        try:
            await self._move(ticket, state, reason, data)
        except IllegalMove as illegal:
            # It ended by itself in the moment in which it was to be ended: that end is noted, and holds.
            if not is_final(illegal.old):
                raise
            self._standings.change(ticket, state=illegal.old, holder=None)
        else:
            self._standings.change(ticket, environment=environment)

    async def _move(self, ticket: str, state: AgentState, reason: str, data: Mapping[str, Any] | None = None) -> None:
        await self._ports.journal.move(ticket, state, reason, data)
        self._standings.change(ticket, state=state)

    async def _give_back(self, ticket: str, clock: TicketClock, **further: Any) -> None:
        await self._claims.give_back(ticket, worked_s=clock.worked_s, **further)
        self._standings.change(ticket, holder=None, worked_s=clock.worked_s)

    async def _let_go(self, ticket: str, clock: TicketClock) -> None:
        """Release what a ticket that has ended still holds. One that has not keeps its worktree; its sandbox is only
        kept while the environment is waited for."""
        work, standing = self._workspaces.out.get(ticket), self._standings[ticket]
        ended = standing.state in FINAL_STATES
        if ended:
            # Nobody takes it up any more: no claim is needed to clear up.
            self._claims.forget(ticket)
        if work is not None:
            if ended or not waits(standing.not_before, time.time()):
                await self.quietly(self._ports.validator.release(work), ticket)
                self._workspaces.out.pop(ticket, None)
            if ended:
                await self.quietly(self._workspaces.release(work), ticket)
        if ticket in self._claims.held:
            await self._give_back(ticket, clock)

    async def clear(self, ticket: str) -> None:
        """Remove what an earlier process, or a pause, left of a ticket that is ended without being worked on."""
        attempt = self._standings[ticket].attempt
        with contextlib.suppress(SpurlineError):
            work = await self._ports.workspaces.prepare(self._run, self._ports.tickets[ticket], attempt)
            await self.quietly(self._ports.validator.release(work), ticket)
            await self.quietly(self._workspaces.release(work), ticket)

    async def _admit(self, ticket: str, step: str) -> None:
        """See graphs.ports.Admit."""
        breaker = self._breakers.get(_NEEDS.get(step, ""))
        if breaker is not None and breaker.reason is not None and not self._to_stop(ticket):
            with self.standing(ticket):
                waiting = asyncio.create_task(breaker.wait(), name=f"{ticket} waits for the {breaker.name}")
                try:
                    while not waiting.done() and not self._to_stop(ticket):
                        await asyncio.wait([waiting], timeout=LOOK_S)
                finally:
                    waiting.cancel()
        if self._to_stop(ticket):
            raise Stopped

    @contextlib.contextmanager
    def standing(self, ticket: str) -> Iterator[None]:
        """The time of the ticket in the block does not count: it waits, and does nothing."""
        if (clock := self.clocks.get(ticket)) is None:
            yield
            return
        self._rest(ticket)
        with clock.standing():
            yield

    def admit_call(self, ticket: str) -> None:
        """Before each call of the model; raises Stopped where the ticket is to stop, LeaseLost where it may be somebody
        else's by now."""
        self._claims.generation(ticket)
        if self._to_stop(ticket):
            raise Stopped

    def _to_stop(self, ticket: str) -> bool:
        return self.draining or ticket in self.stopping

    async def quietly(self, effort: Awaitable[object], of: str) -> None:
        """Wait for what may fail without harm: only a defect is told."""
        try:
            await effort
        except (SpurlineError, LeaseLost):
            pass
        except Exception:  # the boundary of a clean-up: it must not change how a ticket ended, nor end the run
            self._on_crash(of, traceback.format_exc())
