"""The supervisor of a run: starts tickets as limits and dependencies allow, and accounts for each exactly once.

One ticket's failure never touches another one. A ticket is claimed before it is worked on; it ends in a final state, or
it is given back where it stands, and whoever takes it up next goes on there. What the user wants of a run or a ticket
stands in the store, and is looked for twice a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from graphs.loop import TicketLoop, work_ticket
from graphs.ports import Ports, Stopped, Submitter, Work
from graphs.state import TicketState
from harness.engine.breakers import Breaker
from harness.engine.clock import TicketClock
from harness.engine.limits import Limits
from harness.engine.outlook import AFTER_FAULT, WAITS, Outlook, look_ahead, urgency
from harness.engine.pool import Pool
from harness.engine.throttle import TrackedWorkspaces
from harness.store.claims import LONGEST_WAIT_S, Claims, LeaseLost, Standing, waits
from harness.store.journal import IllegalMove
from sandbox.driver import Driver
from tasks.errors import (
    EnvironmentFault,
    ModelError,
    SpurlineError,
    StoreError,
    disk_is_full,
)
from tasks.states import FINAL_STATES, AgentState, FinalState, is_final
from tasks.text import one_line
from tasks.ticket import Ticket

LOOK_S: Final = 0.5
_SIGN_OF_LIFE_S: Final = 5.0
_ALARM_S: Final = 30.0
_SHARE_S: Final = 5.0

_NEEDS: Final[Mapping[str, str]] = {"generate": "model", "instantiate": "baseline", "validate": "baseline"}
"""Which breaker each step waits for."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How one ticket ended."""

    ticket: str
    state: FinalState
    environment: bool = False
    """Whether the environment was at fault."""


async def _nothing() -> None:
    return None


async def _untold(ticket: str) -> None:
    return None


class Drained(Exception):
    """The supervisor was asked to stop, and everything at work has: a signal, no error."""


class _Unhurried:
    """A Submitter that the ticket's clock does not cut: either it is not begun any more, or the clock stands still from
    then on, and the ticket ends as what was handed over says."""

    def __init__(self, inner: Submitter, clocks: Mapping[str, TicketClock]) -> None:
        self._inner, self._clocks = inner, clocks

    async def submit(self, work: Work, commit: str, verdict: str) -> str:
        self._clocks[work.ticket.id].stand_still()
        return await self._inner.submit(work, commit, verdict)


class Supervisor:
    """Works one backlog. Owns no connection: what it is given outlives it."""

    def __init__(
        self,
        *,
        run: str,
        loop: TicketLoop,
        ports: Ports,
        claims: Claims,
        workspaces: TrackedWorkspaces,
        driver: Driver,
        limits: Limits,
        breakers: Mapping[str, Breaker],
        on_crash: Callable[[str, str], None],
        taken_up: Callable[[str], Awaitable[None]] = _untold,
        rest: Callable[[str], None] = lambda ticket: None,
        recheck: Callable[[], None] = lambda: None,
        share: Callable[[], Awaitable[None]] = _nothing,
        faults: int = 6,
        hold_s: float = 1800.0,
        ttl_s: float = 1800.0,
    ) -> None:
        """`faults` of the environment end a ticket, a fault that holds for `hold_s` ends the run. `ttl_s`: leases of
        sandboxes. `on_crash` is told the ticket (or what else was at work) and the traceback of a defect of ours,
        `taken_up` a ticket before it is worked on, and `rest` one whose time stands still; `recheck` is called when
        tickets are to stop that may wait to call the model, `share` now and then while others work on the run too."""
        self._run, self._loop, self._claims = run, loop, claims
        self._clocks: dict[str, TicketClock] = {}
        """Of the tickets that are taken through the loop."""
        self._ports = replace(ports, submitter=_Unhurried(ports.submitter, self._clocks), admit=self._admit)
        self._workspaces, self._driver, self._limits, self._breakers = workspaces, driver, limits, breakers
        self._on_crash, self._faults, self._hold_s, self._ttl_s = on_crash, faults, hold_s, ttl_s
        self._taken_up, self._rest, self._recheck, self._share = taken_up, rest, recheck, share
        self._tickets: dict[str, Ticket] = {}
        self._standings: dict[str, Standing] = {}
        self._wish, self._revision, self._shared = "", -1, False
        self._shared_at = 0.0
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._stopping: dict[str, str] = {}
        """Tickets at work that are to stop, and why: `paused`, `cancelled`, or `lost` to another worker."""
        self._told: dict[str, str] = {}
        """Why tickets are not started, as the store has it."""
        self._alarm: tuple[str, float] | None = None
        self._draining = False
        self._fatal: Exception | None = None
        self._news = asyncio.Event()

    def drain(self) -> None:
        """Start nothing any more, and let everything at work stop at its next step."""
        self._draining = True
        self._news.set()

    def urgency(self, ticket: str) -> float:
        """How urgent a ticket at work is; see `outlook.urgency`."""
        standing = self._standings.get(ticket)
        return urgency(standing) if standing is not None and not is_final(standing.state) else 0.0

    @property
    def cancelled(self) -> bool:
        """Whether the user wanted the whole run to end."""
        return self._wish == "cancelled"

    def noted(self, ticket: str, state: str, iterations: int | None) -> None:
        """A ticket at work has come to another state."""
        standing = self._standings.get(ticket)
        if standing is not None:
            known = standing.iterations if iterations is None else iterations
            self._standings[ticket] = replace(standing, state=state, iterations=known)

    async def work(self, tickets: Sequence[Ticket]) -> tuple[Ending, ...]:
        """Take every ticket to its end. Cancelled from outside, it lets go of all that is out and re-raises.

        Raises Drained after `drain`, StoreError where an ending could not be noted, EnvironmentFault where the
        environment did not recover. What has not ended can be taken up again then.
        """
        self._tickets = {ticket.id: ticket for ticket in tickets}
        async with self._signs_of_life(), self._nothing_out(), Pool(self._limits.agents) as pool:
            while True:
                await self._look()
                outlook = look_ahead(tickets, self._standings, wish=self._wish, now=time.time())
                self._stop_if_hopeless()
                # Whoever has ended may still be letting go.
                if (outlook.over or self._draining) and not self._tasks:
                    break
                await self._obey(outlook)
                pool.size = self._limits.agents
                await self._start(outlook, pool)
                await self._explain(outlook)
                await self._next_news()
        if not outlook.over:
            raise Drained
        return tuple(self._ending(ticket.id) for ticket in tickets)

    async def _look(self) -> None:
        """Read what the user wants; and where tickets stand, when somebody else may have moved them."""
        wishes = await self._claims.wishes()
        if wishes.dead:
            await self._claims.bury()
        shared, self._shared = self._shared, wishes.workers > 1
        if wishes.revision != self._revision or self._shared or shared or wishes.dead:
            self._limits.change(json.loads(wishes.limits), wishes.workers)
            before = dict(self._standings)
            read = {one.ticket: one for one in await self._claims.standings()}
            # What moved here while it was read is known better here.
            moved = {ticket: one for ticket, one in self._standings.items() if one is not before.get(ticket)}
            self._standings = {**read, **moved}
            if time.monotonic() - self._shared_at >= _SHARE_S:
                self._shared_at = time.monotonic()
                await self._share()
        self._wish, self._revision = wishes.wish, wishes.revision

    async def _obey(self, outlook: Outlook) -> None:
        """Stop what is to stop, and end what can only be cancelled."""
        for ticket in tuple(self._tasks):
            wished = self._standings[ticket].wish
            if self._stopping.get(ticket) in ("cancelled", "lost"):
                continue
            if "cancelled" in (self._wish, wished):
                # What is being handed over is: it cannot be taken back. What is let go of ends in the next look.
                if ticket in self._clocks and self._standings[ticket].state != "submitting":
                    self._break_off(ticket, "cancelled")
            elif "paused" in (self._wish, wished):
                self._stopping[ticket] = "paused"
            else:
                self._stopping.pop(ticket, None)
        if self._draining or self._stopping:
            self._recheck()
        for ticket, why in outlook.doomed.items():
            if ticket in self._tasks:
                continue
            begun = self._standings[ticket].state != "queued"
            with contextlib.suppress(LeaseLost):
                await self._end(ticket, "cancelled", why)
                if begun:
                    await self._clear(ticket)

    def _break_off(self, ticket: str, why: str) -> None:
        self._stopping[ticket] = why
        self._tasks[ticket].cancel()

    async def _start(self, outlook: Outlook, pool: Pool) -> None:
        free = self._limits.agents - len(self._tasks)
        # One that is retried, or was given back, may still be let go of.
        ready = [ticket for ticket in outlook.ready if ticket not in self._tasks]
        if self._draining or free <= 0 or not ready:
            return
        # A few more than there is room for: another worker may be quicker.
        for ticket in await self._claims.take(ready[: 2 * free + 8], free):
            self._standings[ticket] = replace(self._standings[ticket], holder=self._claims.worker)
            self._told.pop(ticket, None)
            begun = asyncio.Event()
            await pool.start(lambda ticket=ticket, begun=begun: self._guarded(ticket, begun), f"ticket {ticket}")  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
            await begun.wait()

    async def _explain(self, outlook: Outlook) -> None:
        """Store why each ticket that nobody has is not started; raise the alarm where one reason holds them all."""
        reasons = {**dict.fromkeys(outlook.ready, WAITS), **outlook.held}
        for ticket in outlook.ready:
            if ticket in self._claims.held:
                del reasons[ticket]
        # The fault itself, which is there already, says more.
        changed = {
            ticket: why for ticket, why in reasons.items() if self._told.get(ticket) != why and why != AFTER_FAULT
        }
        if changed:
            await self._claims.explain(changed)
            self._told.update(changed)
        held = set(outlook.held.values())
        if self._tasks or len(held) != 1 or outlook.ready or self._shared:
            self._alarm = None
            return
        (why,) = held
        if self._alarm is None or self._alarm[0] != why:
            self._alarm = (why, time.monotonic())
        elif time.monotonic() - self._alarm[1] >= _ALARM_S:
            self._alarm = (why, time.monotonic() + 10 * _ALARM_S)
            self._ports.journal.emit("fleet.held", None, {"by": "tickets", "reason": why, "tickets": len(outlook.held)})

    async def _next_news(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._news.wait()
        self._news.clear()

    def _stop_if_hopeless(self) -> None:
        if self._fatal is not None:
            raise self._fatal
        for breaker in self._breakers.values():
            if breaker.reason is not None and breaker.fault_s > self._hold_s:
                raise EnvironmentFault(
                    f"the {breaker.name} did not recover within {self._hold_s / 60:g} minutes: {breaker.reason}",
                    hint=f"mend it, then `spurline runs resume {self._run}` goes on",
                )

    async def _guarded(self, ticket: str, begun: asyncio.Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[ticket] = task
        begun.set()
        try:
            await self._take(ticket)
        except Exception as error:  # not even the ending could be noted: the run cannot go on
            self._fatal = error
        finally:
            del self._tasks[ticket]
            self._stopping.pop(ticket, None)
            self._news.set()

    async def _take(self, ticket: str) -> None:
        standing = self._standings[ticket]
        clock = TicketClock(self._limits.ticket_s - standing.worked_s, standing.worked_s)
        try:
            await self._worked(ticket, standing, clock)
        except LeaseLost:
            self._forget(ticket)
        finally:
            await self._let_go(ticket, clock)

    async def _worked(self, ticket: str, standing: Standing, clock: TicketClock) -> None:
        """Work on the ticket, and note what became of it. LeaseLost where it is somebody else's by now."""
        try:
            state = await self._through(ticket, standing, clock)
            # Where it had ended before it was taken up, only its row does not know yet.
            await self._end(ticket, state["outcome"], state["reason"])
        except Stopped:
            await self._stopped(ticket)
        except LeaseLost:
            raise
        except asyncio.CancelledError:
            match self._stopping.get(ticket):
                case "cancelled":
                    await self._end(ticket, "cancelled", "cancelled by the user")
                case "lost":
                    raise LeaseLost(ticket) from None
                case _:
                    raise
        except Exception as error:  # the boundary of one ticket: its defect must not end its neighbours
            await self._broken(ticket, error, clock)

    async def _through(self, ticket: str, standing: Standing, clock: TicketClock) -> TicketState:
        """Take the ticket through the loop. Only in here it can be broken off, and never as it is let go of."""
        self._clocks[ticket] = clock
        try:
            async with clock:
                if standing.state == "submitting":
                    # The submission was begun before: see _Unhurried.
                    clock.stand_still()
                await self._taken_up(ticket)
                return await work_ticket(self._loop, self._ports, self._run, ticket, standing.attempt)
        finally:
            del self._clocks[ticket]
            self._rest(ticket)

    def _forget(self, ticket: str) -> None:
        """Somebody else works on it: nothing of it is ours any more."""
        self._workspaces.out.pop(ticket, None)
        self._claims.forget(ticket)
        self._revision = -1

    async def _stopped(self, ticket: str) -> None:
        if self._stopping.get(ticket) == "paused":
            await self._move(ticket, "paused", "paused by the user")

    async def _broken(self, ticket: str, error: Exception, clock: TicketClock) -> None:
        if isinstance(error, StoreError):
            # What happens to a ticket cannot be noted any more.
            raise error
        if isinstance(error, EnvironmentFault) and error.transient:
            await self._faulted(ticket, error, clock)
        elif isinstance(error, SpurlineError):
            environment = isinstance(error, EnvironmentFault)
            await self._end(ticket, "error", one_line(error.message, 500), environment=environment)
        # A port's own TimeoutError is a defect, unless it is this ticket's time that is over.
        elif isinstance(error, TimeoutError) and clock.expired:
            await self._end(ticket, "failed", f"out of budget: {self._limits.ticket_s / 60:g} minutes are over")
        elif isinstance(error, OSError) and disk_is_full(error):
            reason = f"the disk is full: {error.filename or 'that of .spurline/ or of the temporary files'}"
            await self._end(ticket, "error", reason, environment=True)
        else:
            self._on_crash(ticket, "".join(traceback.format_exception(error)))
            await self._end(ticket, "error", f"a defect of Spurline: {one_line(repr(error), 300)}")

    async def _faulted(self, ticket: str, error: EnvironmentFault, clock: TicketClock) -> None:
        """The environment broke a step off: the ticket tries it again later, and nothing of that is the agent's."""
        times, reason = self._standings[ticket].faults + 1, one_line(error.message, 500)
        self._ports.journal.emit("agent.fault", ticket, {"times": times, "code": error.code, "reason": reason})
        self._breakers["model" if isinstance(error, ModelError) else "baseline"].trip(reason)
        if times > self._faults:
            await self._end(ticket, "error", reason, environment=True)
            return
        not_before = time.time() + min(2.0 ** (times - 1), LONGEST_WAIT_S)
        await self._give_back(ticket, clock, not_before=not_before, fault=True, reason=f"{AFTER_FAULT}: {reason}")
        self._standings[ticket] = replace(self._standings[ticket], faults=times, not_before=not_before)

    async def _end(self, ticket: str, state: FinalState, reason: str, *, environment: bool = False) -> None:
        data = {"environment": True} if environment else {}
        try:
            await self._move(ticket, state, reason, data)
        except IllegalMove as illegal:
            # It ended by itself in the moment in which it was to be ended: that end is noted, and holds.
            if not is_final(illegal.old):
                raise
            self._standings[ticket] = replace(self._standings[ticket], state=illegal.old, holder=None)
        else:
            self._standings[ticket] = replace(self._standings[ticket], environment=environment)

    async def _move(self, ticket: str, state: AgentState, reason: str, data: Mapping[str, Any] | None = None) -> None:
        await self._ports.journal.move(ticket, state, reason, data)
        self._standings[ticket] = replace(self._standings[ticket], state=state)

    async def _give_back(self, ticket: str, clock: TicketClock, **further: Any) -> None:
        await self._claims.give_back(ticket, worked_s=clock.worked_s, **further)
        self._standings[ticket] = replace(self._standings[ticket], holder=None, worked_s=clock.worked_s)

    async def _let_go(self, ticket: str, clock: TicketClock) -> None:
        """Release what a ticket that has ended still holds. One that has not keeps its worktree; its sandbox is only
        kept while the environment is waited for."""
        work, standing = self._workspaces.out.get(ticket), self._standings[ticket]
        ended = standing.state in FINAL_STATES
        if work is not None:
            if ended or not waits(standing.not_before, time.time()):
                await self._quietly(self._ports.validator.release(work), ticket)
                self._workspaces.out.pop(ticket, None)
            if ended:
                await self._quietly(self._workspaces.release(work), ticket)
        if ended:
            self._claims.forget(ticket)
        elif ticket in self._claims.held:
            await self._give_back(ticket, clock)

    async def _clear(self, ticket: str) -> None:
        """Remove what an earlier process, or a pause, left of a ticket that is ended without being worked on."""
        attempt = self._standings[ticket].attempt
        with contextlib.suppress(SpurlineError):
            work = await self._ports.workspaces.prepare(self._run, self._tickets[ticket], attempt)
            await self._quietly(self._ports.validator.release(work), ticket)
            await self._quietly(self._workspaces.release(work), ticket)

    def _ending(self, ticket: str) -> Ending:
        standing = self._standings[ticket]
        return Ending(ticket, cast(FinalState, standing.state), standing.environment)

    async def _admit(self, ticket: str, step: str) -> None:
        """See graphs.ports.Admit."""
        breaker = self._breakers.get(_NEEDS.get(step, ""))
        if breaker is not None and breaker.reason is not None and not self._to_stop(ticket):
            self._rest(ticket)
            with self._clocks[ticket].standing():
                waiting = asyncio.create_task(breaker.wait(), name=f"{ticket} waits for the {breaker.name}")
                try:
                    while not waiting.done() and not self._to_stop(ticket):
                        await asyncio.wait([waiting], timeout=LOOK_S)
                finally:
                    waiting.cancel()
        if self._to_stop(ticket):
            raise Stopped

    def admit_call(self, ticket: str) -> None:
        """Before each call of the model; raises Stopped where the ticket is to stop."""
        if self._to_stop(ticket):
            raise Stopped

    def _to_stop(self, ticket: str) -> bool:
        return self._draining or ticket in self._stopping

    async def _quietly(self, effort: Awaitable[object], of: str) -> None:
        """Wait for what may fail without harm: only a defect is told."""
        try:
            await effort
        except SpurlineError:
            pass
        except Exception:  # the boundary of a clean-up: it must not change how a ticket ended, nor end the run
            self._on_crash(of, traceback.format_exc())

    @contextlib.asynccontextmanager
    async def _signs_of_life(self) -> AsyncIterator[None]:
        async def every(seconds: float, what: Callable[[], Awaitable[None]]) -> None:
            while True:
                await asyncio.sleep(seconds)
                try:
                    await what()
                except Exception as error:  # a boundary: without signs of life the run must not go on unseen
                    self._fatal = error
                    self._news.set()
                    return

        tasks = [
            asyncio.create_task(every(self._ttl_s / 3, self.renew), name="leases"),
            asyncio.create_task(every(_SIGN_OF_LIFE_S, self._show_life), name="signs of life"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _show_life(self) -> None:
        """Renew all claims; a ticket whose claim was lost is let go of at once."""
        lost = await self._claims.renew({ticket: clock.worked_s for ticket, clock in self._clocks.items()})
        if lost:
            self._revision = -1
        for ticket in lost & self._clocks.keys():
            self._break_off(ticket, "lost")

    @contextlib.asynccontextmanager
    async def _nothing_out(self) -> AsyncIterator[None]:
        """At the end no sandbox is left, whatever was waited for; worktrees of what goes on later are."""
        try:
            yield
        finally:
            for ticket, work in tuple(self._workspaces.out.items()):
                # Another worker of this machine may have taken it up meanwhile, with its sandbox.
                if self._standings[ticket].holder in (None, self._claims.worker):
                    await self._quietly(self._ports.validator.release(work), ticket)
                self._workspaces.out.pop(ticket, None)

    async def renew(self) -> None:
        """Renew the baseline's lease and those of all sandboxes at work: one round."""
        await self._quietly(self._driver.hold(lease_s=self._ttl_s), "leases")
        for work in tuple(self._workspaces.out.values()):
            await self._quietly(self._driver.renew(work.sandbox, ttl_s=self._ttl_s), "leases")
