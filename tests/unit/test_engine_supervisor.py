"""The supervisor over the real graph and the real store: each ticket is accounted for once, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from graphs.ports import Generated, Work
from harness.engine.supervisor import Ending
from harness.store.checkpoints import open_checkpoints
from harness.store.database import Database
from harness.store.journal import StoreJournal
from tasks.errors import CheckoutError, ModelError, SandboxError, SandboxGone, StoreError
from tasks.states import AgentState
from tests.unit.floor import Floor, failing, stuck
from tests.unit.memory_ports import Script, ticket, verdict

pytestmark = pytest.mark.usefixtures("no_task_left")


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
    floor.model_is_there()
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


async def test_waiting_for_a_turn_is_no_work_on_a_ticket(database: Database) -> None:
    names = [f"t{number}" for number in range(40)]
    floor = Floor(database, [ticket(name) for name in names])

    async def slowly(of: str, name: str) -> None:
        if name == "prepare":
            await asyncio.sleep(2)

    floor.world.before.append(slowly)
    # A few worktrees are made at once, and the last one waits for longer than a ticket may be worked on.
    endings = await floor.work(agents=40, ticket_s=10)
    await floor.check(endings)
    assert {ending.state for ending in endings.values()} == {"verified"}
    assert all(row.worked_s < 10 for row in (await floor.rows()).values())


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
    floor.model_is_there()
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


async def test_a_lease_that_was_given_to_a_sandbox_as_it_was_let_go_of_is_left_to_it(database: Database) -> None:
    floor = Floor(database, [])
    supervisor = floor.supervisor()
    works = {name: await floor.workspaces.prepare("r1", ticket(name)) for name in ("a", "b", "c")}
    floor.workspaces.leave(works["a"])
    renew = floor.leases.renew

    async def meanwhile(name: str, *, ttl_s: float) -> None:
        await renew(name, ttl_s=ttl_s)
        await floor.workspaces.release(works["c"])

    floor.leases.renew = meanwhile  # type: ignore[method-assign]
    await supervisor.renew()
    assert floor.leases.renewed == [works["b"].sandbox]
    # Worked on once more, it is renewed as ever.
    await floor.workspaces.prepare("r1", ticket("a"))
    await supervisor.renew()
    assert floor.leases.renewed[1:] == [works["a"].sandbox, works["b"].sandbox]


async def test_leases_are_renewed_while_there_is_work(database: Database) -> None:
    floor = Floor(database, [ticket("t")])

    async def until_renewed(_: str, name: str) -> None:
        if name == "validate":
            await floor.leases.again.wait()

    floor.world.before.append(until_renewed)
    (ending,) = await (await floor.begin(ttl_s=0.05)).work(floor.tickets)
    assert ending.state == "verified"
    assert "t-sandbox" in floor.leases.renewed
