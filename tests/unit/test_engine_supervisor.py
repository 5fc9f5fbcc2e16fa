"""The supervisor over the real graph and the real store: each ticket is accounted for once, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from graphs.loop import build_loop
from graphs.ports import Caps, Generated, Ports, Work
from harness.engine.breakers import Breaker, Probe
from harness.engine.gates import Gate
from harness.engine.limits import NAMES, Limits
from harness.engine.supervisor import Ending, Supervisor
from harness.engine.throttle import TrackedWorkspaces
from harness.store.checkpoints import open_checkpoints
from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.documents import Messages
from harness.store.journal import StoreJournal
from harness.store.runs import Runs
from harness.store.tables import AgentRow, RunRow
from sandbox.driver import Driver
from tasks.errors import CheckoutError, ModelError, SandboxError, SandboxGone, StoreError
from tasks.events import Event
from tasks.states import AgentState, is_final
from tasks.ticket import Ticket
from tests.unit.memory_ports import Before, Script, World, ticket, verdict


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
    ) -> Supervisor:
        self.workspaces = TrackedWorkspaces(self.world.workspaces)
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
            Caps(iterations=3),
        )
        said = dict.fromkeys(NAMES, 100) | {"agents": agents}
        self.limits = Limits(
            said,
            calls=Gate("model_calls", 1),
            ticket_s=ticket_s,
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
            on_crash=lambda name, text: self.crashes.append((name, text)),
        )
        self.journal.listen(lambda event: heard(supervisor, event))
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


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, made once: migrating takes longer than most of these tests."""
    path = tmp_path_factory.mktemp("empty") / "spurline.db"
    Database(path).close()
    return path


@pytest.fixture
async def database(tmp_path: Path, empty: Path) -> AsyncIterator[Database]:
    path = tmp_path / "spurline.db"
    shutil.copyfile(empty, path)
    async with Database(path) as opened:
        yield opened


@pytest.fixture(autouse=True)
async def _nothing_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}


async def test_every_kind_of_ending(database: Database, tmp_path: Path) -> None:
    scripts = {
        "failed": Script(verdicts=[verdict("failed", "400")]),
        "unproven": Script(verdicts=[verdict("unproven")]),
        "needs-human": Script(turns=[Generated("needs_human", "which one?")]),
        "broke": Script(turns=[Generated("out_of_budget", "4 USD are spent")]),
    }
    floor = Floor(database, [ticket("verified"), *map(ticket, scripts)], scripts)
    async with open_checkpoints(tmp_path / "checkpoints.db") as saver:
        endings = await floor.work(agents=2, saver=saver)
    await floor.check(endings)
    states = {name: ending.state for name, ending in endings.items()}
    assert states == {
        "verified": "verified",
        "failed": "failed",
        "unproven": "unproven",
        "needs-human": "needs_human",
        "broke": "failed",
    }
    rows = await floor.rows()
    assert rows["failed"].iterations == 3
    assert rows["verified"].submission == "branch spurline/r1/verified"
    assert not floor.crashes


async def test_no_tickets_are_no_work(database: Database) -> None:
    assert await Floor(database, []).work() == {}


async def test_a_ticket_waits_for_what_it_depends_on(database: Database) -> None:
    tickets = [ticket("c", depends=("a", "b")), ticket("b", depends=("a",)), ticket("a"), ticket("free")]
    floor = Floor(database, tickets)
    await floor.check(await floor.work())
    order = [of for of, name in floor.world.calls if name in ("prepare", "release worktree") and of != "free"]
    assert order == ["a", "a", "b", "b", "c", "c"]


async def test_what_depends_on_an_unverified_ticket_is_cancelled_all_the_way(database: Database) -> None:
    tickets = [ticket("a"), ticket("b", depends=("a",)), ticket("c", depends=("b",)), ticket("free")]
    floor = Floor(database, tickets, {"a": Script(verdicts=[verdict("unproven")])})
    endings = await floor.work(agents=1)
    await floor.check(endings)
    assert [endings[name].state for name in ("a", "b", "c", "free")] == [
        "unproven",
        "cancelled",
        "cancelled",
        "verified",
    ]
    rows = await floor.rows()
    assert rows["b"].reason == "it depends on 'a', which was not verified"
    assert rows["c"].reason == "it depends on 'b', which was not verified"
    assert {of for of, _ in floor.world.calls} == {"a", "free"}


async def test_a_dependency_outside_of_the_run_is_not_waited_for(database: Database) -> None:
    floor = Floor(database, [ticket("b", depends=("a",))])
    endings = await floor.work()
    assert endings["b"].state == "verified"


METHODS = ("prepare", "generate", "commit", "static", "instantiate", "validate", "submit")
ERRORS: list[tuple[BaseException, bool, str]] = [
    (ModelError("the model is gone"), True, "the model is gone"),
    (SandboxGone("it expired\x1b[2J"), True, "it expired"),
    (CheckoutError("no such commit"), False, "no such commit"),
    (KeyError("ours"), False, "a defect of Spurline: KeyError('ours')"),
    (TimeoutError("a socket's"), False, "a defect of Spurline: TimeoutError("),
    (asyncio.CancelledError(), False, "a defect of Spurline: NodeCancelledError("),
]


async def test_one_tickets_error_touches_no_other(database: Database) -> None:
    bad = {
        f"{at}-{type(error).__name__}": (at, error, environment, reason)
        for at in METHODS
        for error, environment, reason in ERRORS
    }
    good = ["a", "b", "c"]
    floor = Floor(database, map(ticket, [*bad, *good]))
    floor.world.before += [failing(error, name, at) for name, (at, error, _, _) in bad.items()]
    endings = await floor.work(agents=20)
    await floor.check(endings)
    assert {endings[name] for name in good} == {Ending(name, "verified") for name in good}
    rows = await floor.rows()
    for name, (_, _, environment, reason) in bad.items():
        assert endings[name] == Ending(name, "error", environment)
        assert rows[name].reason.startswith(reason)
    defects = {name for name in bad if rows[name].reason.startswith("a defect")}
    assert {name for name, _ in floor.crashes} == defects
    assert all("Traceback" in text for _, text in floor.crashes)


@pytest.mark.parametrize("at", ["prepare", "generate", "instantiate", "validate"])
async def test_a_tickets_time_runs_out(database: Database, at: str) -> None:
    floor = Floor(database, [ticket("slow")])
    floor.world.before.append(stuck("slow", at))
    endings = await floor.work(ticket_s=0.3)
    await floor.check(endings)
    assert endings["slow"].state == "failed"
    assert (await floor.rows())["slow"].reason == "out of budget: 0.005 minutes are over"
    assert not floor.crashes


async def test_an_end_that_came_before_the_time_was_over_holds(database: Database) -> None:
    class Hesitant(StoreJournal):
        async def move(
            self, ticket: str, state: AgentState, reason: str = "", data: Mapping[str, Any] | None = None
        ) -> None:
            await super().move(ticket, state, reason, data)
            if state == "unproven":
                await asyncio.Event().wait()

    floor = Floor(database, [ticket("t")], {"t": Script(verdicts=[verdict("unproven")])})
    floor.make_journal = Hesitant
    endings = await floor.work(ticket_s=1.0)
    await floor.check(endings)
    assert endings["t"] == Ending("t", "unproven")


async def test_a_submission_that_has_begun_is_finished_though_the_time_is_over(database: Database) -> None:
    floor, ticket_s = Floor(database, [ticket("t")]), 2.0
    loop, over_at = asyncio.get_running_loop(), 0.0

    async def until_over(_: str, name: str) -> None:
        nonlocal over_at
        if name == "prepare":
            over_at = loop.time() + ticket_s
        elif name in ("submit", "release worktree"):
            await asyncio.sleep(max(0.0, over_at - loop.time()) + 0.05)

    floor.world.before.append(until_over)
    endings = await floor.work(ticket_s=ticket_s)
    await floor.check(endings)
    assert endings["t"] == Ending("t", "verified")
    assert set(floor.world.submitted) == {"t"}
    assert floor.world.names("t").count("submit") == 1


async def test_no_submission_begins_once_the_time_is_over(database: Database) -> None:
    class Deaf(StoreJournal):
        async def move(
            self, ticket: str, state: AgentState, reason: str = "", data: Mapping[str, Any] | None = None
        ) -> None:
            await super().move(ticket, state, reason, data)
            if state == "submitting":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

    floor = Floor(database, [ticket("t")])
    floor.make_journal = Deaf
    endings = await floor.work(ticket_s=1.0)
    await floor.check(endings)
    assert endings["t"] == Ending("t", "failed")
    assert not floor.world.submitted
    assert not floor.crashes


async def test_writes_that_were_given_up_do_not_stop_the_store(database: Database) -> None:
    floor = Floor(database, [ticket(f"t{number}") for number in range(20)])
    await floor.begin()
    moves = [asyncio.create_task(floor.journal.move(one.id, "preparing")) for one in floor.tickets]
    await asyncio.sleep(0)
    for move in moves[::2]:
        move.cancel()
    await asyncio.wait(moves)
    async with asyncio.timeout(30):
        await floor.journal.move("t1", "generating")
    assert (await floor.rows())["t1"].state == "generating"


@pytest.mark.parametrize("error", [SandboxError("the keeper is gone"), LookupError("ours")])
@pytest.mark.parametrize("at", ["delete sandbox", "release worktree"])
async def test_a_clean_up_that_fails_changes_no_ending(database: Database, at: str, error: Exception) -> None:
    floor = Floor(database, map(ticket, ("bad", "a")))
    floor.world.before += [failing(error, "bad", at), failing(ModelError("gone"), "bad", "validate")]
    endings = await floor.work()
    assert {name: ending.state for name, ending in endings.items()} == {"bad": "error", "a": "verified"}
    assert (await floor.rows())["bad"].reason == "gone"
    assert bool(floor.crashes) == isinstance(error, LookupError)


async def test_a_store_that_fails_ends_the_run_and_lets_go_of_everything(database: Database, tmp_path: Path) -> None:
    floor = Floor(database, [ticket(f"t{number}") for number in range(12)])

    async def damage(of: str, name: str) -> None:
        if (of, name) == ("t2", "static"):
            with sqlite3.connect(tmp_path / "spurline.db", timeout=30) as connection:
                connection.execute("DROP TABLE agents")
            connection.close()
        elif of != "t2":
            await asyncio.sleep(0)

    floor.world.before.append(damage)
    with pytest.raises(StoreError, match="no such table"):
        await floor.work(agents=4)
    # What the agents wrote stays, for whoever takes the run up again.
    assert "t2" in floor.world.out
    assert not floor.world.sandboxes


@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_from_outside_it_lets_go_and_keeps_the_states(database: Database, times: int) -> None:
    floor = Floor(database, [ticket(f"t{number}") for number in range(10)])
    at_work, waiting = asyncio.Event(), set[str]()

    async def wait(of: str, name: str) -> None:
        if name == "validate" and of != "t0":
            waiting.add(of)
            if len(waiting) == 3:
                at_work.set()
            await asyncio.Event().wait()

    floor.world.before.append(wait)
    work = asyncio.create_task(floor.work(agents=3))
    await at_work.wait()
    for _ in range(times):
        work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    # Whoever takes the run up again finds what the agents wrote.
    assert floor.world.out == waiting
    assert not floor.world.sandboxes
    states = Counter(row.state for row in (await floor.rows()).values())
    assert states == {"verified": 1, "validating": 3, "queued": 6}


async def test_two_hundred_tickets_at_fifty_agents(database: Database) -> None:
    kinds = [
        Script(),
        Script(verdicts=[verdict("failed", "400"), verdict("verified")]),
        Script(verdicts=[verdict("unproven")]),
    ]
    tickets = [
        ticket(f"t{number}", depends=(f"t{number - 7}",) if number % 7 == 3 and number > 7 else ())
        for number in range(200)
    ]
    scripts = {one.id: Script(verdicts=list(kinds[place % 3].verdicts)) for place, one in enumerate(tickets)}
    scripts["t151"] = Script()
    floor = Floor(database, tickets, scripts)
    most = 0

    async def count(of: str, name: str) -> None:
        nonlocal most
        most = max(most, len(floor.workspaces.out))
        if of == "t151" and name == "submit":
            raise KeyError("ours")
        await asyncio.sleep(0)

    floor.world.before.append(count)
    endings = await floor.work(agents=50)
    await floor.check(endings)
    assert len(endings) == 200
    assert 30 < most <= 50
    assert endings["t151"].state == "error"
    states = Counter(ending.state for ending in endings.values())
    assert states["verified"] + states["unproven"] + states["cancelled"] + states["error"] == 200
    assert states["cancelled"] > 0
    for one in tickets:
        (wanted,) = one.depends or (None,)
        if wanted is not None:
            cancelled = endings[one.id].state == "cancelled"
            assert cancelled == (endings[wanted].state != "verified")


def out(name: str) -> Work:
    return Work("r1", ticket(name), "branch", "base", "tree", f"{name}-sandbox")


async def test_one_round_of_leases_renews_all_whatever_one_of_them_says(database: Database) -> None:
    floor = Floor(database, [])
    supervisor = floor.supervisor()
    floor.workspaces.out.update({name: out(name) for name in ("a", "b", "c", "d")})
    floor.leases.broken = {
        "baseline": SandboxError("not up"),
        "a-sandbox": SandboxGone("not made yet"),
        "b-sandbox": KeyError("ours"),
    }
    await supervisor.renew()
    assert floor.leases.held == 1
    assert floor.leases.renewed == ["a-sandbox", "b-sandbox", "c-sandbox", "d-sandbox"]
    assert [name for name, _ in floor.crashes] == ["leases"]


async def test_leases_are_renewed_while_there_is_work(database: Database) -> None:
    floor = Floor(database, [ticket("t")])

    async def until_renewed(_: str, name: str) -> None:
        if name == "validate":
            await floor.leases.again.wait()

    floor.world.before.append(until_renewed)
    (ending,) = await (await floor.begin(ttl_s=0.05)).work(floor.tickets)
    assert ending.state == "verified"
    assert "t-sandbox" in floor.leases.renewed
