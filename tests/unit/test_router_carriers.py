"""The Python rules of the carriers: what is read, refused, emitted and taken off."""

from __future__ import annotations

import re

import pytest

from sandbox.carriers import Header, carry, fresh, read, strip
from sandbox.keys import RoutingKey

KEY = RoutingKey("0123456789abcdef")
OTHER = "fedcba9876543210"
TRACED = f"00-5b17{KEY}aabbccddeeff-1122334455667788-01"


@pytest.mark.parametrize(
    ("header", "carrier"),
    [
        (("X-Spurline-Key", KEY), "header"),
        (("x-spurline-key", f"{KEY} ,\t{KEY}"), "header"),
        (("baggage", f"user=7, spurline-key = {KEY} ;ttl=1,x=y"), "baggage"),
        (("baggage", f"spurline-key=%30{KEY[1:]}"), "baggage"),
        (("tracestate", f"vendor=1,spurline-key={KEY}"), "tracestate"),
        (("traceparent", TRACED), "trace-id"),
        (("b3", f"5b17{KEY}aabbccddeeff-1122334455667788-1"), "other"),
        (("b3", KEY), "other"),
        (("b3", "5b170123-4567-89ab-cdef-aabbccddeeff"), "other"),
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
        ("traceparent", f"00-4b17{KEY}aabbccddeeff-1122334455667788-01"),
        ("traceparent", f"ff-5b17{KEY}aabbccddeeff-1122334455667788-01"),
        ("traceparent", f"00-5b17{KEY}aabbccddeef-1122334455667788-01"),
        ("b3", "0"),
    ],
)
def test_what_only_looks_like_a_carrier_is_none(header: Header) -> None:
    reading = read([header], extra=("b3",))
    assert (reading.key, reading.carriers, reading.problem) == (None, (), None)


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
    assert carried["traceparent"] == f"00-5b17{KEY}0a0b0c0d0e0f-1122334455667788-01"


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
