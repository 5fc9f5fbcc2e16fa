"""The compiled ticket loop, driven over ports in memory."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from graphs.loop import build_loop, picture, work_ticket
from graphs.ports import Caps, Generated, Ports, Verdict
from graphs.state import TicketState
from tasks.errors import ModelError, SandboxError
from tasks.states import FINAL_STATES, is_final
from tests.unit.memory_ports import VERIFIED, Script, World, ticket, verdict

NODES = ("prepare", "generate", "check", "instantiate", "validate", "feedback", "submit", "tear_down")
ONE_PASS = ["generating", "checking", "instantiating", "validating"]


async def work(script: Script, max_iterations: int = 6, **caps: int) -> tuple[World, TicketState]:
    world = World([ticket()], {"t1": script})
    return world, await work_ticket(build_loop(), world.ports(Caps(max_iterations, **caps)), "r1", "t1")


async def test_verified_at_once() -> None:
    world, state = await work(Script())
    assert world.journal.states["t1"] == ["queued", "preparing", *ONE_PASS, "submitting", "verified"]
    assert world.submitted["t1"] == (f"{1:040x}", "v-verified")
    assert state["outcome"] == "verified"
    assert world.journal.data["t1"] == {
        "iterations": 1,
        "branch": "spurline/r1/t1",
        "sandbox": "t1-sandbox",
        "commit": f"{1:040x}",
        "verdict": "v-verified",
        "submission": "branch spurline/r1/t1",
    }
    assert world.names("t1")[-2:] == ["delete sandbox", "release worktree"]
    assert not world.out
    assert not world.sandboxes
    assert world.heard["t1"][0].startswith("Ticket t1: Ticket t1\n")


async def test_verified_at_the_third_iteration_in_the_same_conversation() -> None:
    verdicts = [verdict("failed", "payments answered 400"), verdict("failed", "still 400"), VERIFIED]
    world, state = await work(Script(verdicts=verdicts))
    assert world.journal.states["t1"] == ["queued", "preparing", *ONE_PASS * 3, "submitting", "verified"]
    assert world.heard["t1"][1:] == ["payments answered 400", "still 400"]
    assert world.submitted["t1"][0] == f"{3:040x}"
    assert state["iteration"] == 3


async def test_a_static_failure_goes_back_before_anything_is_started() -> None:
    world, state = await work(Script(static=["E501 line too long", None]))
    assert world.names("t1").count("instantiate") == 1
    assert "E501 line too long" in world.heard["t1"][1]
    assert state["outcome"] == "verified"


async def test_a_fork_that_crashes_goes_back_with_its_traceback() -> None:
    world, state = await work(Script(forks=[verdict("failed", "Traceback: KeyError"), None]))
    assert world.heard["t1"][1] == "Traceback: KeyError"
    assert world.names("t1").count("validate") == 1
    assert state["outcome"] == "verified"


async def test_a_verdict_that_the_agent_cannot_mend_ends() -> None:
    for conclusion in ("failed", "unproven", "needs_human"):
        world, state = await work(Script(verdicts=[verdict(conclusion)]))
        assert world.journal.states["t1"][-1] == state["outcome"] == conclusion
        assert world.journal.data["t1"]["verdict"] == f"v-{conclusion}"
        assert not world.submitted


async def test_a_change_out_of_scope_ends_before_the_checks() -> None:
    world, state = await work(Script(forks=[verdict("needs_human")]))
    assert state["outcome"] == "needs_human"
    assert "validate" not in world.names("t1")


@pytest.mark.parametrize(
    ("end", "outcome", "reason"),
    [
        (Generated("needs_human", "which of the two?"), "needs_human", "which of the two?"),
        (Generated("out_of_budget", "4 USD are spent"), "failed", "out of budget: 4 USD are spent"),
    ],
)
async def test_what_an_agent_that_gives_up_leaves_is_committed_and_never_judged(
    end: Generated, outcome: str, reason: str
) -> None:
    world, state = await work(Script(turns=[end]))
    assert (state["outcome"], state["reason"]) == (outcome, reason)
    assert world.names("t1") == ["prepare", "generate", "commit", "delete sandbox", "release worktree"]
    assert world.journal.data["t1"]["commit"] is None
    assert not any(kind == "commit.made" for kind, _, _ in world.journal.events)
    assert not world.out


async def test_out_of_iterations_with_failing_checks_is_failed() -> None:
    world, state = await work(Script(verdicts=[verdict("failed", "400")]), max_iterations=3)
    assert world.names("t1").count("generate") == 3
    assert (state["outcome"], state["reason"]) == ("failed", "out of budget after 3 iterations: it is failed")


async def test_out_of_iterations_while_unproven_is_unproven() -> None:
    _, state = await work(Script(verdicts=[verdict("unproven", "key lost at legacy")]), max_iterations=2)
    assert (state["outcome"], state["reason"]) == ("unproven", "it is unproven")


async def test_the_last_verdict_decides_how_it_ends() -> None:
    verdicts = [verdict("failed", "400"), verdict("unproven", "key lost")]
    _, state = await work(Script(verdicts=verdicts), max_iterations=2)
    assert state["outcome"] == "unproven"


async def test_an_untouched_tree_is_never_judged() -> None:
    world, state = await work(Script(trees=[None]), max_iterations=2)
    assert set(world.names("t1")) == {"prepare", "generate", "commit", "delete sandbox", "release worktree"}
    assert (state["outcome"], state["reason"]) == ("failed", "out of budget after 2 iterations: nothing was changed")
    assert "Nothing changed" in world.heard["t1"][1]


async def test_a_stuck_agent_is_judged_by_what_it_left() -> None:
    world, state = await work(Script(turns=[Generated("stuck", "same call, same result")]))
    assert state["outcome"] == "verified"
    assert world.names("t1").count("generate") == 1


async def test_a_stuck_agent_that_left_nothing_new_ends() -> None:
    script = Script(turns=[Generated("stuck", "same call, same result")], trees=[None])
    world, state = await work(script, max_iterations=5)
    assert (state["outcome"], state["reason"]) == ("failed", "the agent is stuck: same call, same result")
    assert world.names("t1").count("generate") == 1


async def test_the_same_commit_is_not_judged_twice_and_what_was_said_of_it_holds() -> None:
    script = Script(trees=["c" * 40], verdicts=[verdict("unproven", "key lost at legacy")])
    world, state = await work(script, max_iterations=3)
    assert world.names("t1").count("validate") == 1
    assert (state["outcome"], state["reason"]) == ("unproven", "it is unproven")


async def test_a_verdict_is_never_shown_with_another_commit() -> None:
    script = Script(static=[None, "E501"], verdicts=[verdict("failed", "400")])
    world, _ = await work(script, max_iterations=2)
    assert world.journal.data["t1"]["commit"] == f"{2:040x}"
    assert world.journal.data["t1"]["verdict"] is None


@pytest.mark.parametrize("method", ["delete sandbox", "release worktree"])
async def test_what_cannot_be_let_go_of_does_not_change_how_a_ticket_ends(method: str) -> None:
    async def fail(_: str, name: str) -> None:
        if name == method:
            raise SandboxError("the keeper is gone")

    world = World([ticket()])
    world.before.append(fail)
    state = await work_ticket(build_loop(), world.ports(), "r1", "t1")
    assert state["outcome"] == world.journal.states["t1"][-1] == "verified"
    assert "release worktree" in world.names("t1")


async def test_errors_of_the_ports_are_passed_on() -> None:
    async def fail(_: str, name: str) -> None:
        if name == "generate":
            raise ModelError("no such model", hint="name another one")

    world = World([ticket()])
    world.before.append(fail)
    with pytest.raises(ModelError, match="no such model"):
        await work_ticket(build_loop(), world.ports(), "r1", "t1")
    assert not is_final(world.journal.states["t1"][-1])


async def test_a_hundred_iterations_fit_under_the_limit_of_steps() -> None:
    world, state = await work(Script(verdicts=[verdict("failed", "400")]), max_iterations=100, failed_verdicts=100)
    assert world.names("t1").count("validate") == 100
    assert state["outcome"] == "failed"


async def test_reasons_of_agents_and_verdicts_are_short_and_plain() -> None:
    loud = "\x1b[31mred\x1b[0m\n" + "x" * 5000
    for script in (
        Script(turns=[Generated("needs_human", loud)]),
        Script(verdicts=[Verdict("v", "unproven", loud, None)]),
        Script(verdicts=[Verdict("v", "failed", loud, "again")]),
    ):
        world, state = await work(script, max_iterations=2)
        assert len(state["reason"]) <= 300
        assert state["reason"].isprintable()
        assert world.journal.reasons["t1"] == state["reason"]


@pytest.mark.parametrize("carries_on", [0, 1])
async def test_the_state_stays_small_and_primitive(carries_on: int) -> None:
    saver = InMemorySaver()
    loop = build_loop(saver)
    long = "x" * 20_000
    script = Script(
        static=[long, None],
        verdicts=[Verdict("v" * 20, "failed", long, long), Verdict("w" * 20, "verified", long, None)],
    )
    world = World([ticket("t" * 40, body=long)], {"t" * 40: script})
    await work_ticket(loop, world.ports(), "r1", "t" * 40, carries_on=carries_on)
    snapshots = [snapshot async for snapshot in loop.aget_state_history(place("t" * 40))]
    assert len(snapshots) > 10
    for snapshot in snapshots:
        assert all(type(value) in (str, int) for value in snapshot.values.values()), snapshot.values
        assert len(json.dumps(snapshot.values)) < 1024


def test_the_picture_names_every_node_and_way() -> None:
    drawn = picture()
    for node in NODES:
        assert f"{node}(" in drawn
    for way in ("check -.-> feedback", "feedback -.-> generate", "validate -.-> submit", "submit --> tear_down"):
        assert way.replace(" ", "") in drawn.replace("&nbsp;", "").replace(" ", "")


METHODS = ("prepare", "generate", "commit", "static", "instantiate", "validate", "submit", "delete sandbox")
RESUMED: list[tuple[str, Script, str]] = [
    *((method, Script(), "verified") for method in METHODS),
    ("generate", Script(verdicts=[verdict("failed", "400"), VERIFIED]), "verified"),
    ("validate", Script(verdicts=[verdict("unproven")]), "unproven"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("method", "script", "outcome"), RESUMED)
async def test_a_killed_thread_goes_on_from_its_node(method: str, script: Script, outcome: str, when: str) -> None:
    plain = World([ticket()], {"t1": copied(script)})
    await work_ticket(build_loop(), plain.ports(), "r1", "t1")

    world = World([ticket()], {"t1": copied(script)})
    loop, ports = build_loop(InMemorySaver()), world.ports()
    fragile = Killer(ports, method, when).ports()
    with pytest.raises(Killed):
        await work_ticket(loop, fragile, "r1", "t1")
    before = await loop.aget_state(place("t1"))
    assert before.next
    state = await loop.ainvoke(None, place("t1"), context=ports, durability="sync")
    assert state["outcome"] == world.journal.states["t1"][-1] == outcome
    assert world.journal.states["t1"].count(outcome) == 1
    # Only the calls of the node that was killed are made again.
    again = [name for name in NODE_CALLS[before.next[0]] if name in world.names("t1")]
    for name in set(plain.names("t1")) - set(again):
        assert world.names("t1").count(name) == plain.names("t1").count(name), name
    assert not world.out
    assert not world.sandboxes


NODE_CALLS = {
    "prepare": ["prepare"],
    "generate": ["generate", "commit"],
    "check": ["static"],
    "instantiate": ["instantiate"],
    "validate": ["validate"],
    "submit": ["submit"],
    "tear_down": ["delete sandbox", "release worktree"],
}


async def test_killed_after_the_end_was_noted_says_the_same_end_again() -> None:
    world = World([ticket()])
    loop, ports = build_loop(InMemorySaver()), world.ports()
    fragile = Killer(ports, "verified", "after").ports()
    with pytest.raises(Killed):
        await work_ticket(loop, fragile, "r1", "t1")
    await loop.ainvoke(None, place("t1"), context=ports, durability="sync")
    assert [state for state in world.journal.states["t1"] if state in FINAL_STATES] == ["verified"]


class MortalSaver(InMemorySaver):
    """Dies once, before or after it was called for the `times`th time."""

    def __init__(self, method: str, when: str, times: int) -> None:
        super().__init__()
        self._method, self._when, self._left = method, when, times

    async def aput(self, *given: Any, **named: Any) -> Any:
        return await self._mortal("aput", super().aput(*given, **named))

    async def aput_writes(self, *given: Any, **named: Any) -> None:
        await self._mortal("aput_writes", super().aput_writes(*given, **named))

    async def _mortal(self, method: str, doing: Coroutine[Any, Any, Any]) -> Any:
        self._left -= method == self._method
        last = method == self._method and self._left == 0
        if last and self._when == "before":
            doing.close()
            raise Killed
        done = await doing
        if last:
            raise Killed
        return done


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("times", range(1, 9))
@pytest.mark.parametrize("method", ["aput", "aput_writes"])
async def test_killed_as_its_position_is_kept_it_goes_on(method: str, times: int, when: str) -> None:
    world = World([ticket()])
    loop = build_loop(MortalSaver(method, when, times))
    with pytest.raises(Killed):
        await work_ticket(loop, world.ports(), "r1", "t1")
    state = await work_ticket(loop, world.ports(), "r1", "t1")
    assert state["outcome"] == world.journal.states["t1"][-1] == "verified"
    assert world.journal.states["t1"].count("verified") == 1
    assert not world.out
    assert not world.sandboxes


def place(name: str) -> Any:
    return {"configurable": {"thread_id": f"r1/{name}"}, "recursion_limit": 100}


def copied(script: Script) -> Script:
    return Script(
        list(script.turns), list(script.trees), list(script.static), list(script.forks), list(script.verdicts)
    )


class Killed(BaseException):
    """The process is gone: no `except Exception` may see it."""


class Killer:
    """Ports that die once, before or after one of their methods did its work."""

    def __init__(self, ports: Ports, method: str, when: str) -> None:
        self._ports, self._method, self._when = ports, method, when

    def ports(self) -> Ports:
        parts: dict[str, Any] = {name: _Fragile(getattr(self._ports, name), self) for name in PORTS}
        return replace(self._ports, **parts)

    async def call(self, target: Any, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        called = NAMED.get((type(target).__name__, name), name)
        hit = self._method in (called, *(arg for arg in args if isinstance(arg, str)))
        if hit and self._when == "before":
            raise Killed
        result = await getattr(target, name)(*args, **named)
        if hit:
            raise Killed
        return result


PORTS = ("workspaces", "agent", "validator", "submitter", "journal", "messages")
NAMED = {("World", "release"): "delete sandbox", ("MemoryWorkspaces", "release"): "release worktree"}


class _Fragile:
    def __init__(self, target: Any, killer: Killer) -> None:
        self._target, self._killer = target, killer

    def emit(self, *args: Any) -> Any:
        return self._target.emit(*args)

    def __getattr__(self, name: str) -> Any:
        async def method(*args: Any, **named: Any) -> Any:
            return await self._killer.call(self._target, name, args, named)

        return method


async def test_a_note_lets_the_same_change_be_judged_again() -> None:
    turns = [Generated("done"), Generated("done", noted=True)]
    verdicts = [verdict("failed", "payments answered 400"), VERIFIED]
    world, state = await work(Script(turns=turns, trees=["c1"], verdicts=verdicts))
    assert state["outcome"] == "verified"
    assert world.names("t1").count("validate") == 2
    assert world.submitted["t1"] == ("c1", "v-verified")
    assert [data["commit"] for kind, _, data in world.journal.events if kind == "commit.made"] == ["c1"]


async def test_a_note_is_news_to_an_agent_that_was_nudged() -> None:
    turns = [Generated("done"), Generated("done"), Generated("done", noted=True), Generated("done")]
    world, state = await work(Script(turns=turns, trees=[None]), max_iterations=20)
    assert state["outcome"] == "failed"
    assert "stuck" in state["reason"]
    # Twice told and once heard of the user, it has two more turns.
    assert world.names("t1").count("generate") == 5


async def test_an_attempt_that_carries_on_hears_how_it_ended_and_what_it_had_yet_to_hear() -> None:
    loop = build_loop(InMemorySaver())
    world = World([ticket()], {"t1": Script(verdicts=[verdict("failed", "payments answered 400")])})
    first = await work_ticket(loop, world.ports(Caps(1)), "r1", "t1")
    assert first["outcome"] == "failed"
    world.scripts["t1"] = Script()
    world.journal.states.clear()
    second = await work_ticket(loop, world.ports(Caps(1)), "r1", "t1", 2, carries_on=1)
    assert second["outcome"] == "verified"
    assert (second["iteration"], second["failed_verdicts"], second["branch"]) == (1, 0, "spurline/r1/t1@2")
    opening, going_on = world.heard["t1"]
    assert opening.startswith("Ticket t1:")
    assert "It had ended: failed, out of budget after 1 iterations: it is failed." in going_on
    assert going_on.endswith("payments answered 400")


async def test_an_attempt_that_carries_on_hears_nothing_twice() -> None:
    loop = build_loop(InMemorySaver())
    turns = [Generated("done"), Generated("needs_human", "which?")]
    world = World([ticket()], {"t1": Script(turns=turns, verdicts=[verdict("failed", "payments answered 400")])})
    await work_ticket(loop, world.ports(), "r1", "t1")
    world.scripts["t1"] = Script()
    world.journal.states.clear()
    await work_ticket(loop, world.ports(), "r1", "t1", 2, carries_on=1)
    assert world.heard["t1"][1] == "payments answered 400"
    assert "It had ended: needs_human, which?." in world.heard["t1"][2]
    assert "400" not in world.heard["t1"][2]


async def test_where_the_conversation_is_elsewhere_the_ticket_is_told_anew() -> None:
    world = World([ticket()])
    state = await work_ticket(build_loop(InMemorySaver()), world.ports(), "r1", "t1", 2, carries_on=1)
    assert state["outcome"] == "verified"
    assert world.heard["t1"][0].startswith("Ticket t1:")
