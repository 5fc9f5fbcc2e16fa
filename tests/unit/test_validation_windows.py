"""What records say of a check, and the evidence that is made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.validation.results import CheckResult
from harness.validation.windows import (
    aside,
    errors,
    faults,
    lost_towards,
    mistaken,
    reachable,
    record_facts,
    served,
    unexplained,
)
from sandbox.driver import Window
from sandbox.hops import Hop, Lost
from sandbox.seen import seen
from sandbox.service import Service, System

SYSTEM = System(
    "shop",
    "gateway",
    {
        "gateway": Service("gateway", env={"A": "${url:legacy}", "B": "${url:users}"}),
        "legacy": Service("legacy", env={"A": "${url:users}"}),
        "users": Service("users", env={"A": "${url:pricing}"}),
        "pricing": Service("pricing"),
    },
)
PLAIN = Hop(1.0, 100.0, "client", "gateway", "k", ("header",), None, "baseline", None, "127.0.0.1:1", "GET", "/", 200)


def hop(caller: str, service: str, at: float = 1.0, **more: Any) -> Hop:
    return replace(PLAIN, caller=caller, service=service, at=at, **more)


def window(*hops: Hop, strays: tuple[Hop, ...] = (), dropped: int = 0) -> Window:
    return Window(0.0, 9.0, hops, strays, (), dropped)


def test_only_the_current_generation_serves() -> None:
    fork = hop("client", "users", served_by="fork", generation=2)
    found = window(fork, replace(fork, generation=1), hop("client", "users"))
    assert served(found, {"users": 2}) == {"users": 1}
    assert record_facts([found], {"users": 2}).old_generation == 1


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"served_by": "refused", "status": 421}, "refused"),
        ({"flags": "UF", "status": 503}, "unrouted"),
        ({"served_by": "fork", "generation": 1}, "old_generation"),
    ],
)
def test_each_blemish_is_counted_with_its_place(more: dict[str, Any], field: str) -> None:
    facts = record_facts([window(hop("a", "b", **more), hop("a", "c"))], {"b": 2})
    assert getattr(facts, field) == 1
    assert facts.where == ("a", "b")
    assert not facts.clean


def test_dropped_records_add_up() -> None:
    assert record_facts([window(dropped=1), window(dropped=2)], {}).dropped == 3
    assert record_facts([window(hop("client", "gateway"))], {}).clean


def test_faults_are_those_of_the_service() -> None:
    found = window(hop("a", "b", served_by="fault"), hop("a", "c", served_by="fault"), hop("a", "b"))
    assert faults(found, "b") == 1


def test_errors_of_forks_are_told_but_for_those_of_the_baseline() -> None:
    fine = CheckResult("pass", "")
    broken = hop("gateway", "users", path="/users/7?x=1", served_by="fork", generation=1, status=500)
    said = "users answered gateway with 500 (GET /users/#)"
    assert errors(window(broken), fine) == {said}
    internal = replace(broken, method="POST", path="/s.S/Get", status=200, grpc_status=13)
    assert errors(window(internal), fine) == {"users answered gateway with gRPC status 13 (POST /s.S/Get)"}
    known = replace(fine, seen=seen([replace(broken, path="/users/8", served_by="baseline", generation=None)], (), ()))
    assert errors(window(broken), known) == frozenset()
    others = {"caller": "client"}, {"served_by": "baseline"}, {"status": 404}, {"grpc_status": 5, "status": 200}
    assert errors(window(*(replace(broken, **other) for other in others)), fine) == frozenset()


def test_a_key_lost_on_the_way_to_a_fork() -> None:
    stray = hop("legacy", "users", at=1.05, key=None)
    found = window(hop("client", "gateway"), hop("gateway", "legacy", at=1.01), strays=(stray,))
    assert lost_towards(found, ["users"], SYSTEM) == (Lost("legacy", "users"),)
    assert lost_towards(found, ["pricing"], SYSTEM) == (Lost("legacy", "users"),)
    assert lost_towards(found, ["gateway"], SYSTEM) == ()
    assert lost_towards(found, [], SYSTEM) == ()


def test_who_was_called_without_a_key_has_lost_none() -> None:
    # Somebody else's unkeyed request passes the gateway while ours is there too.
    theirs = (hop("client", "gateway", at=1.0, key=None), hop("gateway", "users", at=1.02, key=None))
    found = window(hop("client", "gateway"), strays=theirs)
    assert unexplained(theirs) == (theirs[0],)
    assert lost_towards(found, ["users"], SYSTEM) == ()


def test_a_key_that_nobody_has_was_lost_by_who_was_called_with_ours() -> None:
    refused = hop("gateway", "users", at=1.02, key="other", served_by="refused", status=421)
    found = window(hop("client", "gateway"), strays=(refused,))
    assert mistaken(found) == lost_towards(found, ["users"], SYSTEM) == (Lost("gateway", "users"),)
    assert mistaken(window(strays=(refused,))) == mistaken(window(hop("client", "legacy"), strays=(refused,))) == ()
    assert mistaken(window(hop("client", "gateway"), strays=(hop("gateway", "users", key=None),))) == ()
    # Nobody who was refused has called on.
    into = hop("legacy", "gateway", at=1.01, key="other", served_by="refused", status=421)
    stray = hop("gateway", "users", at=1.02, key=None)
    assert stray in unexplained((into, stray))


def test_a_fork_may_lose_the_key_after_it_has_answered() -> None:
    asked = hop("client", "gateway", at=1.0, served_by="fork", generation=1)
    found = window(asked, strays=(hop("gateway", "legacy", at=3.0, key=None),))
    assert lost_towards(found, ["users"], SYSTEM) == ()
    assert aside(found, ["users"], SYSTEM) == (Lost("gateway", "legacy"),)
    assert aside(found, [], SYSTEM) == aside(found, ["gateway"], SYSTEM) == ()
    assert aside(window(asked, strays=(hop("gateway", "users", at=0.5, key=None),)), ["users"], SYSTEM) == ()
    assert aside(replace(found, hops=(replace(asked, served_by="baseline"),)), ["users"], SYSTEM) == ()


def test_what_follows_a_loss_is_not_another_one() -> None:
    strays = (hop("legacy", "users", at=1.02, key=None), hop("users", "pricing", at=1.04, key=None))
    found = window(hop("gateway", "legacy"), hop("gateway", "users"), strays=strays)
    assert lost_towards(found, ["pricing"], SYSTEM) == (Lost("legacy", "users"),)


def test_reach_follows_calls_and_survives_circles() -> None:
    assert reachable("legacy", SYSTEM) == {"legacy", "users", "pricing"}
    circle = System("s", "a", {"a": Service("a", env={"X": "${url:b}"}), "b": Service("b", env={"X": "${url:a}"})})
    assert reachable("a", circle) == {"a", "b"}
    assert reachable("unknown", circle) == frozenset()
