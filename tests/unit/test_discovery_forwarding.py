"""Which services forward the key, judged from hop records."""

from __future__ import annotations

import pytest

from harness.discovery.forwarding import Forwarding, explained, forwarding
from sandbox.hops import Carrier, Hop
from sandbox.service import Service, System

KEY = "0123456789abcdef"
SYSTEM = System(
    "shop",
    "gateway",
    {
        "gateway": Service("gateway", command=("x",), env={"A": "${url:users}", "B": "${url:orders}"}),
        "orders": Service("orders", command=("x",), env={"A": "${url:users}"}),
        "users": Service("users", command=("x",)),
        "ledger": Service("ledger", url="tcp://127.0.0.1:9"),
    },
)


def hop(caller: str, service: str, at: float, *carriers: Carrier, keyed: bool = True, duration_ms: float = 10) -> Hop:
    return Hop(
        at=at,
        duration_ms=duration_ms,
        caller=caller,
        service=service,
        key=KEY if keyed else None,
        carriers=carriers,
        trace_id=None,
        served_by="baseline",
        generation=None,
        upstream="127.0.0.1:1",
        method="GET",
        path="/",
        status=200,
    )


def of(service: str, keyed: list[Hop], strays: list[Hop]) -> Forwarding:
    return next(one for one in forwarding(SYSTEM, keyed, strays) if one.service == service)


def test_a_service_that_sends_baggage_forwards_all() -> None:
    seen = [
        hop("client", "gateway", 1.0, "header", duration_ms=100),
        hop("gateway", "users", 1.01, "baggage", "trace-id"),
    ]
    found = of("gateway", seen, [])
    assert (found.forwards, found.carriers, found.entered) == ("all", ("baggage", "trace-id"), 1)
    assert explained(found).level == "ok"
    assert explained(found).text == "forwards baggage, traceparent"


def test_the_trace_id_alone_is_fine() -> None:
    seen = [hop("client", "gateway", 1.0, "header", duration_ms=100), hop("gateway", "users", 1.01, "trace-id")]
    assert of("gateway", seen, []).forwards == "trace-id"
    assert explained(of("gateway", seen, [])).level == "ok"


def test_a_configured_header_is_fine() -> None:
    seen = [hop("client", "gateway", 1.0, "header", duration_ms=100), hop("gateway", "users", 1.01, "other")]
    assert of("gateway", seen, []).forwards == "other"


def test_a_call_without_key_while_a_keyed_request_was_open_is_a_loss() -> None:
    seen = [hop("client", "gateway", 1.0, "header", duration_ms=100)]
    found = of("gateway", seen, [hop("gateway", "users", 1.05, keyed=False)])
    assert (found.forwards, found.lost) == ("nothing", ("users",))
    told = explained(found)
    assert (told.level, told.kind) == ("warning", "config")
    assert "users" in told.text
    assert "traceparent" in told.way_out


def test_a_call_without_key_at_another_time_is_somebody_elses() -> None:
    seen = [hop("client", "gateway", 1.0, "header", duration_ms=100)]
    assert of("gateway", seen, [hop("gateway", "users", 2.0, keyed=False)]).forwards == "not exercised"


def test_a_service_may_forward_to_one_neighbour_and_not_to_another() -> None:
    seen = [hop("client", "gateway", 1.0, "header", duration_ms=100), hop("gateway", "orders", 1.01, "baggage")]
    found = of("gateway", seen, [hop("gateway", "users", 1.05, keyed=False)])
    assert (found.forwards, found.kept, found.lost) == ("some", ("orders",), ("users",))
    assert "orders" in explained(found).text


@pytest.mark.parametrize("service", ["users", "ledger"])
def test_who_calls_nobody_has_nothing_to_forward(service: str) -> None:
    assert of(service, [hop("client", "users", 1.0, "header")], []).forwards == "calls nobody"


def test_what_was_not_reached_is_not_judged() -> None:
    found = of("orders", [hop("client", "gateway", 1.0, "header")], [])
    assert found.forwards == "not exercised"
    assert "no request of the probe reached it" in explained(found).text
    reached = of("gateway", [hop("client", "gateway", 1.0, "header")], [])
    assert "called nobody meanwhile" in explained(reached).text
