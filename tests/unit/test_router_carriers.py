"""The Python rules of the carriers: what is read, refused, emitted and taken off."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.carriers import Header, carry, fresh, read, strip
from sandbox.keys import RoutingKey, trace_id

KEY = RoutingKey("0123456789abcdef")
OTHER = "fedcba9876543210"
OURS = trace_id(KEY, "aabbccdd")
BY_HAND = f"5b17{KEY}aabbccddeeff"
TRACED = f"00-{OURS}-1122334455667788-01"

digits = st.text("0123456789abcdef", min_size=28, max_size=28)


def traced(trace: str) -> list[Header]:
    """A trace id in each form in which it is read."""
    uuid = "-".join((trace[:8], trace[8:12], trace[12:16], trace[16:20], trace[20:]))
    return [("traceparent", f"00-{trace}-1122334455667788-01"), ("b3", f"{trace}-1122334455667788-1"), ("b3", uuid)]


@pytest.mark.parametrize(
    ("header", "carrier"),
    [
        (("X-Spurline-Key", KEY), "header"),
        (("x-spurline-key", f"{KEY} ,\t{KEY}"), "header"),
        (("baggage", f"user=7, spurline-key = {KEY} ;ttl=1,x=y"), "baggage"),
        (("baggage", f"spurline-key=%30{KEY[1:]}"), "baggage"),
        (("tracestate", f"vendor=1,spurline-key={KEY}"), "tracestate"),
        (("traceparent", TRACED), "trace-id"),
        (("b3", f"{OURS}-1122334455667788-1"), "other"),
        (("b3", KEY), "other"),
        (("b3", f",{KEY} ,x,"), "other"),
        (("b3", "5b170123-4567-89ab-cdef-aabbccdd5a34"), "other"),
    ],
)
def test_each_carrier_is_read(header: Header, carrier: str) -> None:
    reading = read([header], extra=("b3",))
    assert (reading.key, reading.carriers, reading.problem) == (KEY, (carrier,), None)


@pytest.mark.parametrize(
    "header",
    [
        ("baggage", f"not-spurline-key={KEY}"),
        ("baggage", f"x=spurline-key={KEY}"),
        ("baggage", f"a=1;spurline-key={KEY}"),
        ("tracestate", f"spurline-key@vendor={KEY}"),
        ("traceparent", f"00-4{OURS[1:]}-1122334455667788-01"),
        ("traceparent", f"ff-{OURS}-1122334455667788-01"),
        ("traceparent", f"00-{OURS[:-1]}-1122334455667788-01"),
        ("traceparent", f"00-{BY_HAND}-1122334455667788-01"),
        ("b3", f"{BY_HAND}-1122334455667788-1"),
        ("b3", "0"),
    ],
)
def test_what_only_looks_like_a_carrier_is_none(header: Header) -> None:
    reading = read([header], extra=("b3",))
    assert (reading.key, reading.carriers, reading.problem) == (None, (), None)


@pytest.mark.parametrize("header", traced(BY_HAND))
def test_a_trace_id_made_by_hand_is_read_while_its_key_is_known(header: Header) -> None:
    assert read([header], extra=("b3",), known={KEY}).key == KEY
    assert read([header], extra=("b3",), known={OTHER}).key is None


@given(digits)
def test_of_all_ends_of_a_foreign_trace_id_one_is_taken_for_ours(drawn: str) -> None:
    key, random = drawn[:16], drawn[16:24]
    ends = [f"{number:04x}" for number in {*range(0, 1 << 16, 257), int(trace_id(key, random)[28:], 16)}]
    for form in range(3):
        taken = [end for end in ends if read([traced(f"5b17{key}{random}{end}")[form]], extra=("b3",)).found]
        assert [f"5b17{key}{random}{end}" for end in taken] == [trace_id(key, random)]


@given(digits, st.booleans())
def test_a_trace_that_is_continued_is_ours_from_then_on(drawn: str, marked: bool) -> None:
    given = ("traceparent", f"00-{'5b17' if marked else '0000'}{drawn}-1122334455667788-00")
    for headers in (carry([given], KEY), fresh(RoutingKey(drawn[:16])).items()):
        trace = next(value for name, value in headers if name == "traceparent")
        assert read([("traceparent", trace)]).carriers == ("trace-id",)


def test_a_foreign_trace_beside_a_key_is_no_disagreement() -> None:
    headers = [("traceparent", f"00-{BY_HAND}-1122334455667788-01"), ("baggage", f"spurline-key={OTHER}")]
    assert read(headers).carriers == ("baggage",)
    assert read(headers, known={KEY}).problem == "disagree"
    assert strip(headers) == headers[:1]
    assert dict(strip(headers, known={KEY}))["traceparent"].startswith("00-0000")


@pytest.mark.parametrize(
    "header",
    [
        ("x-spurline-key", ""),
        ("x-spurline-key", KEY.upper()),
        ("x-spurline-key", f"{KEY},"),
        ("baggage", "spurline-key"),
        ("baggage", f"spurline-key={KEY}0"),
        ("tracestate", f"spurline-key=%30{KEY[1:]}"),
    ],
)
def test_a_carrier_that_names_the_key_but_holds_none_is_malformed(header: Header) -> None:
    reading = read([header])
    assert (reading.key, reading.problem) == (None, "malformed")


def test_carriers_that_disagree_give_no_key() -> None:
    reading = read([("traceparent", TRACED), ("baggage", f"spurline-key={OTHER}")])
    assert (reading.key, reading.problem, reading.carriers) == (None, "disagree", ("baggage", "trace-id"))


def test_two_lines_of_one_header_may_disagree_too() -> None:
    assert read([("baggage", f"spurline-key={KEY}"), ("baggage", f"spurline-key={OTHER}")]).problem == "disagree"


def test_fresh_carriers_hold_the_key_everywhere() -> None:
    reading = read(fresh(KEY, extra=("b3", "x-request-id")).items(), extra=("b3", "x-request-id"))
    assert reading.key == KEY
    assert reading.carriers == ("header", "baggage", "tracestate", "trace-id", "other")


def test_carrying_keeps_what_others_put_there() -> None:
    given = [
        ("baggage", "user=7"),
        ("tracestate", "vendor=1"),
        ("traceparent", "00-000102030405060708090a0b0c0d0e0f-1122334455667788-00"),
    ]
    carried = dict(carry(given, KEY))
    assert carried["baggage"] == f"user=7,spurline-key={KEY}"
    assert carried["tracestate"] == f"spurline-key={KEY},vendor=1"
    assert carried["traceparent"] == f"00-{trace_id(KEY, '0a0b0c0d')}-1122334455667788-01"


def test_carrying_twice_changes_nothing() -> None:
    once = carry([("accept", "*/*")], KEY, extra=("b3",))
    assert sorted(carry(once, KEY, extra=("b3",))) == sorted(once)


def test_stripping_leaves_no_trace_of_the_key() -> None:
    extra = ("b3", "x-request-id")
    given = [("baggage", "user=7;p=1,x=y"), *carry([("accept", "*/*")], KEY, extra)]
    stripped = strip(given, extra)
    assert read(stripped, extra).carriers == ()
    assert not any(KEY in value for _, value in stripped)
    assert ("baggage", "user=7;p=1,x=y") in stripped
    assert re.fullmatch(r"00-0000[0-9a-f]{28}-[0-9a-f]{16}-01", dict(stripped)["traceparent"])
    assert "tracestate" not in dict(stripped)
