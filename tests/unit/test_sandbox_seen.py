"""What is kept of hops and exchanges: few, small, plain, without the key, and the same after JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandbox.exchanges import Exchange
from sandbox.hops import Hop
from sandbox.seen import EXCHANGES_LIMIT, FINE_LIMIT, HOPS_LIMIT, TEXT_LIMIT, Seen, message, seen, shape

KEY = "0123456789abcdef"
names = st.sampled_from(["client", "gateway", "users", "payments"])
texts = st.text(max_size=20) | st.just(f"\x1b[2J{KEY}\udc80" + "x" * 5_000)


def hop(caller: str, service: str, path: str = "/", status: int = 200, **more: Any) -> Hop:
    values: dict[str, Any] = {"key": KEY, "carriers": (), "trace_id": None, "generation": None, "upstream": "1.2.3.4:5"}
    whole = {"at": 1.0, "duration_ms": 1.0, "served_by": "baseline", "method": "GET", **values, **more}
    return Hop(caller=caller, service=service, path=path, status=status, **whole)


def exchange(caller: str, service: str, path: str, status: int, body: str = "") -> Exchange:
    headers = {"content-type": "application/json", "traceparent": f"00-5b17{KEY}", "x-envoy-upstream": "1"}
    return Exchange(1.0, caller, service, KEY, "GET", path, status, headers, body, headers, body)


@given(
    st.lists(st.builds(hop, names, names, texts, st.integers(0, 599)), max_size=120),
    st.lists(st.builds(exchange, names, names, texts, st.integers(400, 599), texts), max_size=12),
    texts,
)
def test_what_is_kept_is_small_and_plain_and_reads_back(hops: list[Hop], failing: list[Exchange], answer: str) -> None:
    kept = seen(hops, failing, failing[:1], answer.replace(KEY, ""))
    text = json.dumps(kept.to_json(), ensure_ascii=False)
    assert Seen.from_json(json.loads(text)) == kept
    assert len(kept.hops) <= HOPS_LIMIT
    assert len(kept.exchanges) <= EXCHANGES_LIMIT
    assert all(len(one.request) < TEXT_LIMIT + 60 and len(one.response) < TEXT_LIMIT + 60 for one in kept.exchanges)
    assert KEY not in text
    assert "1.2.3.4" not in text
    assert "\x1b" not in text
    text.encode()


def test_hops_that_differ_in_numbers_only_are_one() -> None:
    hops = [hop("gateway", "users", f"/users/{n}?v={n}", at=float(n)) for n in (3, 1, 2)]
    (one,) = seen([*hops], [], []).hops
    assert (one.path, one.times, one.kind[3]) == ("/users/1?v=1", 3, "/users/#")
    assert len(seen([*hops, replace(hops[0], status=500)], [], []).hops) == 2


def test_where_it_failed_is_kept_though_there_is_much_else() -> None:
    hops = [hop("client", "gateway", "/" + "a" * n, at=float(n)) for n in range(100)]
    failing = exchange("orders", "payments", "/charges/7", 400, '{"error": "no"}')
    kept = seen([*hops, hop("orders", "payments", "/charges/9", 400, at=200.0)], [failing], [failing])
    assert len(kept.hops) == HOPS_LIMIT
    assert [(one.service, one.origin) for one in kept.hops if one.failed] == [("payments", True)]
    assert kept.hops[-1].service == "payments"


def test_headers_that_say_nothing_are_left_out() -> None:
    (kept,) = seen([], [exchange("orders", "payments", "/", 400, "no")], []).exchanges
    assert kept.response == "content-type: application/json\n\nno"
    assert message({"Date": "now", "retry-after": "5"}, "") == "retry-after: 5\n\n"


def test_the_shape_of_a_path() -> None:
    assert shape("/users/17/orders/4?page=2") == "/users/#/orders/#"


def test_what_went_well_on_the_baseline_is_kept_where_the_sandbox_failed() -> None:
    fine = [exchange("orders", "payments", f"/charges/{n}", 201, f"charged {n}") for n in (1, 2)]
    fine += [exchange("orders", "stock", "/", 200, "there"), exchange("orders", "users", "/8", 200, "mine")]
    failing = exchange("orders", "stock", "/", 409, "gone")
    baseline = seen([], [failing], [], fine=fine)
    assert [(one.service, one.status, one.request) for one in baseline.exchanges if not one.failed] == [
        ("payments", 201, ""),
        ("stock", 200, ""),
        ("users", 200, ""),
    ]
    assert baseline.exchanges[1].response.endswith("charged 1")
    sandbox = seen([hop("orders", "payments", "/charges/9", 400), hop("orders", "users", "/8", 200)], [], [])
    assert [one.service for one in baseline.beside(sandbox).exchanges] == ["stock", "payments"]
    many = [exchange("client", "users", "/" + "a" * n, 200) for n in range(100)]
    assert len(seen([], [], [], fine=many).exchanges) == FINE_LIMIT
