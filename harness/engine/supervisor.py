"""The supervisor of a run: starts tickets as limits and dependencies allow, and accounts for each exactly once.

One ticket's failure never touches another one. A ticket is claimed before it is worked on; it ends in a final state, or
it is given back where it stands, and whoever takes it up next goes on there. What the user wants of a run or a ticket
stands in the store, and is looked for twice a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from graphs.loop import TicketLoop
from graphs.ports import LeaseLost, Ports
from harness.engine.alarm import Alarm
from harness.engine.breakers import Breaker
from harness.engine.limits import Limits
from harness.engine.outlook import AFTER_FAULT, Outlook, look_ahead, pressure, urgency
from harness.engine.overview import Overview
from harness.engine.pool import Pool
from harness.engine.throttle import TrackedWorkspaces
from harness.engine.ticket_work import LOOK_S, Standings, TicketWork
from harness.store.agents import WAITS
from harness.store.claims import Claims
from harness.store.standings import Standing
from sandbox.driver import Driver
from tasks.errors import EnvironmentFault
from tasks.states import FinalState, is_final
from tasks.ticket import Ticket

_SIGN_OF_LIFE_S: Final = 5.0


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
        wished: Callable[[], Awaitable[None]] = _nothing,
        share: Callable[[], Awaitable[None]] = _nothing,
        short: Callable[[], bool] = lambda: False,
        faults: int = 6,
        hold_s: float = 1800.0,
        ttl_s: float = 1800.0,
    ) -> None:
        """`faults` of the environment end a ticket (those of the model only while it answers others), a fault that
        holds for `hold_s` ends the run. `ttl_s`: leases of sandboxes. `on_crash` is told the ticket (or what else was
        at work) and the traceback of a defect of ours, `taken_up` a ticket before it is worked on, and `rest` one whose
        time stands still; `recheck` is called when tickets are to stop that may wait to call the model, `wished` when
        the user was heard of, `share` now and then while others work on the run too, and at once where something is
        `short`."""
        self._standings = Standings()
        self._at_work = TicketWork(
            run=run,
            loop=loop,
            ports=ports,
            claims=claims,
            workspaces=workspaces,
            limits=limits,
            breakers=breakers,
            standings=self._standings,
            on_crash=on_crash,
            taken_up=taken_up,
            rest=rest,
            faults=faults,
        )
        self._run, self._ports, self._claims = run, ports, claims
        self._workspaces, self._driver, self._limits, self._breakers = workspaces, driver, limits, breakers
        self._hold_s, self._ttl_s, self._recheck = hold_s, ttl_s, recheck
        self._overview = Overview(
            claims=claims,
            standings=self._standings,
            limits=limits,
            clocks=self._at_work.clocks,
            wished=wished,
            share=share,
            short=short,
        )
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._told: dict[str, str] = {}
        """Why tickets are not started, as the store has it."""
        self._alarm = Alarm(lambda kind, data: ports.journal.emit(kind, None, data))
        self._fatal: Exception | None = None
        self._news = asyncio.Event()

    def admit_call(self, ticket: str) -> None:
        """Before each call of the model; raises Stopped where the ticket is to stop."""
        self._at_work.admit_call(ticket)

    def standing(self, ticket: str) -> contextlib.AbstractContextManager[None]:
        """The time of a ticket at work does not count in the block."""
        return self._at_work.standing(ticket)

    def excuse(self, ticket: str, seconds: float) -> None:
        """So much of the time of a ticket at work does not count."""
        self._at_work.excuse(ticket, seconds)

    def drain(self) -> None:
        """Start nothing any more, and let everything at work stop at its next step."""
        self._at_work.draining = True
        self._news.set()

    def urgency(self, ticket: str) -> float:
        """How urgent a ticket at work is to the model; see `outlook.urgency`."""
        return self._how(urgency, ticket)

    def pressure(self, ticket: str) -> float:
        """How urgent a ticket at work is to the machine; see `outlook.pressure`."""
        return self._how(pressure, ticket)

    def _how(self, urgent: Callable[[Standing], float], ticket: str) -> float:
        standing = self._standings.get(ticket)
        return urgent(standing) if standing is not None and not is_final(standing.state) else 0.0

    @property
    def cancelled(self) -> bool:
        """Whether the user wanted the whole run to end."""
        return self._overview.wish == "cancelled"

    def noted(self, ticket: str, state: str, iterations: int | None) -> None:
        """A ticket at work has come to another state."""
        standing = self._standings.get(ticket)
        if standing is not None:
            known = standing.iterations if iterations is None else iterations
            self._standings.change(ticket, state=state, iterations=known)

    def answered(self, ticket: str) -> None:
        """The model gave a ticket a whole answer: it is there."""
        self._at_work.answered(ticket)
        self._breakers["model"].mend()

    async def work(self, tickets: Sequence[Ticket]) -> tuple[Ending, ...]:
        """Take every ticket to its end. Cancelled from outside, it lets go of all that is out and re-raises.

        Raises Drained after `drain`, StoreError where an ending could not be noted, EnvironmentFault where the
        environment did not recover. What has not ended can be taken up again then.
        """
        async with self._signs_of_life(), self._nothing_out(), Pool(self._limits.agents) as pool:
            while True:
                await self._overview.refresh()
                outlook = look_ahead(tickets, self._standings, wish=self._overview.wish, now=time.time())
                self._stop_if_hopeless()
                # Whoever has ended may still be letting go.
                if (outlook.over or self._at_work.draining) and not self._tasks:
                    break
                await self._obey(outlook)
                pool.size = self._limits.agents
                await self._start(outlook, pool)
                await self._explain(outlook)
                await self._next_news()
        if not outlook.over:
            raise Drained
        return tuple(self._ending(ticket.id) for ticket in tickets)

    async def _obey(self, outlook: Outlook) -> None:
        """Stop what is to stop, and end what can only be cancelled."""
        for ticket in tuple(self._tasks):
            wishes = self._overview.wish, self._standings[ticket].wish
            if self._at_work.stopping.get(ticket) in ("cancelled", "lost"):
                continue
            if "cancelled" in wishes:
                # What is being handed over is: it cannot be taken back. What is let go of ends in the next look.
                if ticket in self._at_work.clocks and self._standings[ticket].state != "submitting":
                    self._break_off(ticket, "cancelled")
            elif "paused" in wishes:
                self._at_work.stopping[ticket] = "paused"
            else:
                self._at_work.stopping.pop(ticket, None)
        if self._at_work.draining or self._at_work.stopping:
            self._recheck()
        for ticket, why in outlook.doomed.items():
            if ticket in self._tasks:
                continue
            begun = self._standings[ticket].state != "queued"
            with contextlib.suppress(LeaseLost):
                await self._at_work.end(ticket, "cancelled", why)
                if begun:
                    await self._at_work.clear(ticket)

    def _break_off(self, ticket: str, why: str) -> None:
        self._at_work.stopping[ticket] = why
        self._tasks[ticket].cancel()

    async def _start(self, outlook: Outlook, pool: Pool) -> None:
        free = self._limits.agents - len(self._tasks)
        # One that is retried, or was given back, may still be let go of.
        ready = [ticket for ticket in outlook.ready if ticket not in self._tasks]
        if self._at_work.draining or free <= 0 or not ready:
            return
        # A few more than there is room for: another worker may be quicker.
        for ticket in await self._claims.take(ready[: 2 * free + 8], free, self._limits.agents_in_all):
            self._standings.change(ticket, holder=self._claims.worker)
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
        still = len(held) == 1 and not outlook.ready and not self._worked_on()
        self._alarm.heard(held.pop() if still else None, len(outlook.held))

    def _worked_on(self) -> bool:
        """Whether anybody works on any ticket, here or elsewhere."""
        return bool(self._tasks) or any(
            one.holder is not None and not is_final(one.state) for one in self._standings.values()
        )

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
            await self._at_work.take(ticket)
        except Exception as error:  # not even the ending could be noted: the run cannot go on
            self._fatal = error
        finally:
            del self._tasks[ticket]
            self._at_work.stopping.pop(ticket, None)
            self._news.set()

    def _ending(self, ticket: str) -> Ending:
        standing = self._standings[ticket]
        return Ending(ticket, cast(FinalState, standing.state), standing.environment)

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
        if self._claims.stood_still:
            # Others may have taken what it held of the budget. Until it has shown a sign of life it makes no call.
            await self._overview.share()
        lost = await self._claims.renew({ticket: clock.worked_s for ticket, clock in self._at_work.clocks.items()})
        if lost:
            self._standings.stale = True
        for ticket in lost & self._at_work.clocks.keys():
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
                    await self._at_work.quietly(self._ports.validator.release(work), ticket)
                self._workspaces.out.pop(ticket, None)

    async def renew(self) -> None:
        """Renew the baseline's lease and those of all sandboxes at work: one round."""
        await self._at_work.quietly(self._driver.hold(lease_s=self._ttl_s), "leases")
        for work in tuple(self._workspaces.out.values()):
            # What was let go of since the round began has another lease, or none.
            if self._workspaces.renews(work):
                await self._at_work.quietly(self._driver.renew(work.sandbox, ttl_s=self._ttl_s), "leases")
