"""One run on the floor of a test: a real store, the real graph, the real supervisor; the ports play a script."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

from graphs.loop import build_loop
from graphs.ports import Ports
from harness.engine.breakers import Breaker, Probe
from harness.engine.budget import Budget, Caps
from harness.engine.limits import Limits
from harness.engine.supervisor import Ending, Supervisor
from harness.engine.throttle import TrackedWorkspaces
from harness.limits import AT_ONCE, limits_of
from harness.settings import AgentSettings, LimitSettings
from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.documents import Messages
from harness.store.journal import StoreJournal
from harness.store.runs import Runs
from harness.store.tables import AgentRow, RunRow
from sandbox.driver import Driver
from tasks.events import Event
from tasks.states import is_final
from tasks.ticket import Ticket
from tests.unit.memory_ports import Before, Script, World


async def nothing() -> None:
    return None


class Leases:
    """The two calls of a driver that the supervisor makes."""

    def __init__(self) -> None:
        self.held, self.renewed = 0, list[str]()
        self.broken: dict[str, Exception] = {}
        self.again = asyncio.Event()

    async def hold(self, *, lease_s: float) -> None:
        self.held += 1
        if self.held > 1:
            self.again.set()
        if "baseline" in self.broken:
            raise self.broken["baseline"]

    async def renew(self, name: str, *, ttl_s: float) -> None:
        self.renewed.append(name)
        if name in self.broken:
            raise self.broken[name]


class Floor:
    """One run: a database, a world, and a supervisor over them."""

    def __init__(
        self, database: Database, tickets: Iterable[Ticket], scripts: Mapping[str, Script] | None = None
    ) -> None:
        self.database, self.tickets = database, list(tickets)
        self.world = World(self.tickets, scripts)
        self.leases = Leases()
        self.crashes: list[tuple[str, str]] = []
        self.make_journal: type[StoreJournal] = StoreJournal
        self.told: list[Event] = []
        self.alarms: list[tuple[str, str | None]] = []
        self._answers = False

    def model_is_there(self) -> None:
        """Have the model answer others all the time: what it does not answer is one ticket's own trouble."""
        self._answers = True

    async def begin(self, **said: Any) -> Supervisor:
        """The run is noted, and a supervisor may work on it."""
        await Runs(self.database).begin(run_row(len(self.tickets)), self.tickets)
        return await self.joined(**said)

    async def joined(self, **said: Any) -> Supervisor:
        """A supervisor on a run that was noted before."""
        supervisor = self.supervisor(**said)
        await self.claims.begin()
        return supervisor

    async def work(self, **said: Any) -> dict[str, Ending]:
        supervisor = await self.begin(**said)
        endings = await supervisor.work(self.tickets)
        for breaker in self.breakers.values():
            await breaker.aclose()
        assert [ending.ticket for ending in endings] == [ticket.id for ticket in self.tickets]
        return {ending.ticket: ending for ending in endings}

    def supervisor(
        self,
        *,
        agents: int = 4,
        ticket_s: float = 60.0,
        ttl_s: float = 60.0,
        saver: Any = None,
        faults: int = 0,
        hold_s: float = 60.0,
        leads: bool = True,
        probe: Probe | None = None,
        wished: Callable[[], Awaitable[None]] = nothing,
    ) -> Supervisor:
        self.workspaces = TrackedWorkspaces(self.world.workspaces, lambda ticket: supervisor.standing(ticket))
        self.claims = Claims(self.database, "r1", leads=leads)
        self.journal = self.make_journal(self.database, "r1", claims=self.claims)
        self.journal.listen(self.told.append)
        world = self.world
        ports = Ports(
            self.workspaces,
            world,
            world,
            world,
            self.journal,
            Messages(self.database),
            world.tickets,
            lambda name: self.limits.rounds(name),
        )
        said = limits_of(LimitSettings(ticket_minutes=ticket_s / 60), AgentSettings(max_iterations=3))
        said |= dict.fromkeys(AT_ONCE, 100) | {"agents": agents}
        self.budget = Budget(run=Caps(), ticket=Caps())
        self.limits = Limits(
            said,
            calls=SimpleNamespace(model_calls=1),
            budget=self.budget,
            urgency=lambda _: 0.0,
            waited=lambda ticket, gate, seconds: None,
        )
        self.breakers = {
            "baseline": Breaker("baseline", self.note, probe=probe or sound, first_try_s=0.05, longest_try_s=0.2),
            "model": Breaker("model", self.note, first_try_s=0.05, longest_try_s=0.2),
        }
        supervisor = Supervisor(
            run="r1",
            loop=build_loop(saver),
            ports=ports,
            claims=self.claims,
            workspaces=self.workspaces,
            driver=cast(Driver, self.leases),
            limits=self.limits,
            breakers=self.breakers,
            faults=faults,
            hold_s=hold_s,
            ttl_s=ttl_s,
            wished=wished,
            on_crash=lambda name, text: self.crashes.append((name, text)),
        )
        self.journal.listen(lambda event: heard(supervisor, event))
        if self._answers:

            async def others(of: str, name: str) -> None:
                supervisor.answered("another")

            self.world.before.insert(0, others)
        return supervisor

    def note(self, name: str, reason: str | None, seconds: float) -> None:
        self.alarms.append((name, reason))

    async def rows(self) -> dict[str, AgentRow]:
        return {row.ticket: row for row in await Runs(self.database).agents("r1")}

    async def check(self, endings: Mapping[str, Ending]) -> None:
        """What always holds: one end each, the same in the store and in what was told, and nothing left behind."""
        rows = await self.rows()
        assert {name: row.state for name, row in rows.items()} == {name: one.state for name, one in endings.items()}
        ends = Counter(event.ticket for event in self.told if is_final(str(event.data.get("state"))))
        assert ends == dict.fromkeys(rows, 1)
        assert not self.world.out
        assert not self.world.sandboxes
        assert not self.workspaces.out


async def sound() -> str | None:
    return None


def heard(supervisor: Supervisor, event: Event) -> None:
    if event.kind == "agent.state" and event.ticket is not None:
        supervisor.noted(event.ticket, event.data["state"], event.data.get("iterations"))


def run_row(tickets: int) -> RunRow:
    return RunRow(
        id="r1",
        project="shop",
        base="b" * 40,
        state="running",
        settings_digest="",
        settings="{}",
        spurline="0",
        tickets=tickets,
        started_at=1.0,
    )


def failing(error: BaseException, only: str, at: str = "generate") -> Before:
    async def before(of: str, name: str) -> None:
        if (of, name) == (only, at):
            raise error

    return before


def stuck(only: str, at: str = "generate") -> Before:
    async def before(of: str, name: str) -> None:
        if (of, name) == (only, at):
            await asyncio.Event().wait()

    return before
