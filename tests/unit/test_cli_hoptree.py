"""harness.cli.hoptree: which hops belong to a request, and how they hang together."""

from __future__ import annotations

from harness.cli.hoptree import request_trace
from sandbox.hops import Hop, Lost
from sandbox.keys import trace_id as keyed

KEY = "a" * 16
DIGITS = "01234567"
MINE = keyed(KEY, DIGITS)


def hop(caller: str, service: str, at: float, ms: float, *, key: str | None = KEY, trace_id: str | None = MINE) -> Hop:
    return Hop(
        at=at,
        duration_ms=ms,
        caller=caller,
        service=service,
        key=key,
        carriers=(),
        trace_id=trace_id,
        served_by="baseline",
        generation=None,
        upstream="127.0.0.1:1",
        method="GET",
        path="/",
        status=200,
    )


def shape(trace_of: list[Hop], strays: list[Hop]) -> list[tuple[int, str]]:
    return [(node.depth, node.hop.service) for node in request_trace(trace_of, strays, DIGITS).nodes]


def test_children_follow_their_parent() -> None:
    hops = [
        hop("client", "gateway", 1.0, 100),
        hop("gateway", "orders", 1.01, 50),
        hop("orders", "users", 1.02, 5),
        hop("gateway", "users", 1.07, 5),
    ]
    assert shape(hops[::-1], []) == [(0, "gateway"), (1, "orders"), (2, "users"), (1, "users")]


def test_another_request_of_the_same_key_is_left_out() -> None:
    other = keyed(KEY, "f" * 8)
    hops = [
        hop("client", "gateway", 1.0, 100),
        hop("client", "gateway", 1.0, 90, trace_id=other),
        hop("gateway", "users", 1.01, 5, trace_id=other),
    ]
    assert shape(hops, []) == [(0, "gateway")]


def test_a_service_that_starts_a_new_trace_is_found_by_time() -> None:
    hops = [hop("client", "gateway", 1.0, 100), hop("gateway", "users", 1.01, 5, trace_id="9" * 32)]
    assert shape(hops, []) == [(0, "gateway"), (1, "users")]


def test_where_the_key_was_lost() -> None:
    hops = [hop("client", "gateway", 1.0, 100), hop("gateway", "legacy", 1.01, 50)]
    stray = hop("legacy", "users", 1.02, 5, key=None, trace_id=None)
    later = hop("legacy", "users", 3.0, 5, key=None, trace_id=None)
    found = request_trace(hops, [stray, later], DIGITS)
    assert [node.hop.service for node in found.nodes] == ["gateway", "legacy", "users"]
    assert found.lost == (Lost(service="legacy", callee="users"),)


def test_a_baseline_request_has_no_key_to_lose() -> None:
    strays = [
        hop("client", "gateway", 1.0, 100, key=None, trace_id="8" * 20 + DIGITS + "9" * 4),
        hop("gateway", "users", 1.01, 5, key=None, trace_id="8" * 20 + DIGITS + "9" * 4),
        hop("client", "gateway", 1.0, 100, key=None, trace_id="7" * 32),
    ]
    found = request_trace([], strays, DIGITS)
    assert [node.depth for node in found.nodes] == [0, 1]
    assert found.lost == ()


def test_a_service_that_calls_itself_through_others_does_not_go_in_circles() -> None:
    hops = [hop("client", "a", 1.0, 100), hop("a", "b", 1.0, 100), hop("b", "a", 1.0, 100), hop("a", "b", 1.0, 100)]
    assert len(shape(hops, [])) == 4
