"""The carrier rules inside Envoy and their Python twin give the same answer, whatever a client sends."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.carriers import Header, carry, read, strip
from sandbox.keys import RoutingKey, trace_id
from sandbox.router import KeyRoutes, Router
from sandbox.service import CLIENT, Service, System

if TYPE_CHECKING:
    from tests.integration.router.conftest import MakeWorld, World

EXTRA = ("x-request-id", "b3")
KNOWN = (RoutingKey("0123456789abcdef"), RoutingKey("fedcba9876543210"))
UNKNOWN = RoutingKey("5b175b175b175b17")

keys = st.sampled_from((KNOWN[0], KNOWN[0], KNOWN[0], KNOWN[1], UNKNOWN))
odd = st.sampled_from(("", "x", KNOWN[0].upper(), f"{KNOWN[0]}0", f"%30{KNOWN[0][1:]}", f"%3{KNOWN[0]}", '"', "a=b"))
values = st.one_of(keys, keys, keys, odd)
ows = st.sampled_from(("", "", " ", "\t"))
names = st.sampled_from(("spurline-key", "spurline-key", "user", "spurline-key2", "Spurline-Key", "a%20b"))
digits = st.text("0123456789abcdef", min_size=28, max_size=28)
traces = st.one_of(
    st.builds(trace_id, keys, digits.map(lambda drawn: drawn[:8])),
    st.builds(trace_id, digits.map(lambda drawn: drawn[:16]), st.just("00000000")),
    st.builds("5b17{}aabbccddeeff".format, keys),
    st.builds("5b17{}".format, digits),
    st.sampled_from(("0" * 32, "5b17", "A" * 32, "5b17" + "F" * 28)),
)
uuids = traces.map(lambda text: "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])))


@st.composite
def member(draw: st.DrawFn) -> str:
    around = [draw(ows) for _ in range(4)]
    properties = draw(st.sampled_from(("", "", ";ttl=1", f";spurline-key={KNOWN[1]}", " ;a")))
    equals = draw(st.sampled_from(("=", "=", "=", "")))
    return f"{around[0]}{draw(names)}{around[1]}{equals}{around[2]}{draw(values)}{around[3]}{properties}"


@st.composite
def traceparent(draw: st.DrawFn) -> str:
    version = draw(st.sampled_from(("00", "00", "01", "ff", "0")))
    end = draw(st.sampled_from(("01", "00", "01-more", "1", "zz")))
    parent = draw(st.sampled_from(("1122334455667788", "1122334455667788", "1")))
    return f"{version}-{draw(traces)}-{parent}-{end}"


def listed(item: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(item, min_size=1, max_size=3).map(",".join)


lines = st.one_of(
    st.tuples(st.just("x-spurline-key"), listed(values)),
    st.tuples(st.just("baggage"), listed(member())),
    st.tuples(st.just("tracestate"), listed(member())),
    st.tuples(st.just("traceparent"), listed(traceparent())),
    st.tuples(st.just("b3"), listed(st.builds("{}-1122334455667788-1".format, traces) | st.just(""))),
    st.tuples(st.just("x-request-id"), listed(st.one_of(values, traces, uuids, st.just("")))),
).map(lambda line: (line[0], line[1].strip(" \t")))
requests = st.lists(lines, max_size=4)
batches = st.lists(requests, min_size=20, max_size=20)
once_each = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(params=[EXTRA, ()], ids=["configured", "standard"])
async def told(make_world: MakeWorld, request: pytest.FixtureRequest) -> World:
    """The router reads in two ways: closely where headers are configured, by a glance first where none are."""
    world: World = await make_world(carriers=request.param)
    await world.router.apply([KeyRoutes(key, key) for key in KNOWN])
    return world


def joined(headers: list[Header]) -> dict[str, str]:
    """Headers by name, random parts of new trace and span ids left out."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value)
    # Envoy keeps some headers in one piece (`x-request-id`), to which an empty line adds nothing.
    return {name: ",".join(filter(None, values)) for name, values in found.items()}


def alike(text: str, other: str) -> bool:
    """Whether two header values are the same, but for digits that are drawn at random."""
    random = re.compile(r"(5b17[0-9a-f]{16})[0-9a-f]{8}([0-9a-f]{4})(-[0-9a-f]{16})?|(0000)[0-9a-f]{28}")
    return text == other or random.sub(r"\1\2\4", text) == random.sub(r"\1\2\4", other)


async def check(world: World, headers: list[Header]) -> None:
    extra = world.router._system.carriers
    answer = await world.client.get(world.url("users"), headers=headers)
    reading = read(headers, extra, KNOWN)
    body = answer.json()
    if reading.problem == "malformed":
        assert (answer.status_code, body["error"]) == (421, "malformed routing key"), headers
        assert body["carriers"] == list(reading.malformed), headers
    elif reading.problem == "disagree":
        assert (answer.status_code, body["error"]) == (421, "routing keys disagree"), headers
        assert [said["carrier"] for said in body["carriers"]] == [carrier for carrier, _ in reading.found], headers
    elif reading.key is not None and reading.key not in KNOWN:
        assert (answer.status_code, body["error"]) == (421, "unknown routing key"), headers
    else:
        assert answer.status_code == 200, headers
        expected = joined(carry(headers, reading.key, extra) if reading.key else headers)
        sent = joined([(name, value) for name, value in body["headers"]])
        for name, value in expected.items():
            assert alike(sent.get(name, ""), value), (headers, name, sent.get(name), value)
        if reading.key is None:
            assert "x-spurline-key" not in sent, headers


@once_each
@given(batch=batches)
async def test_router_and_twin_agree(told: World, batch: list[list[Header]]) -> None:
    await asyncio.gather(*(check(told, headers) for headers in batch))


@once_each
@given(batch=batches)
async def test_a_sent_key_is_read_back_by_both(told: World, batch: list[list[Header]]) -> None:
    """What the router emits for a key holds it in every carrier, whatever else the request carried."""
    extra = told.router._system.carriers
    for headers in batch:
        if (key := read(headers, extra, KNOWN).key) not in KNOWN:
            continue
        answer = await told.client.get(told.url("users"), headers=headers)
        emitted = read([(name, value) for name, value in answer.json()["headers"]], extra, KNOWN)
        assert emitted.key == key, headers
        assert set(emitted.carriers) >= {"header", "baggage", "tracestate", "trace-id"}, headers
        assert ("other" in emitted.carriers) == bool(extra), headers


def test_the_twin_strips_what_it_carries() -> None:
    for key in KNOWN:
        assert read(strip(carry([("baggage", "a=1")], key, EXTRA), EXTRA), EXTRA).found == ()


async def test_nothing_of_the_key_leaves_the_system(told: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host outside of loopback, played by a service here: only the address is taken for outside."""
    monkeypatch.setattr("sandbox.router.clusters.Upstream.is_loopback", False)
    away = Service("away", url=f"http://{told.peers['users'].address}")
    router = Router(told.router._folder.parent / "egress", System("p", "away", {"away": away}, carriers=EXTRA))
    try:
        await router.start({})
        await router.apply([KeyRoutes(KNOWN[0], KNOWN[0])])
        since = await router.cursor()
        url = "http://{}:{}".format(*router.address(CLIENT, "away"))
        given = [("baggage", "user=7,other=1"), ("tracestate", "vendor=1"), *carry([], KNOWN[0], EXTRA)]
        answer = await told.client.get(url, headers=given)
        sent = [(name, value) for name, value in answer.json()["headers"]]
        assert KNOWN[0] not in answer.text
        assert "spurline" not in answer.text
        assert read(sent, EXTRA).found == ()
        assert joined(sent)["baggage"] == "user=7,other=1"
        assert joined(sent)["tracestate"] == "vendor=1"
        assert joined(sent)["host"] == told.peers["users"].address
        assert alike(joined(sent)["traceparent"], joined(strip(given, EXTRA))["traceparent"])
        assert (await told.client.get(url, headers={"x-spurline-key": UNKNOWN})).status_code == 421
        (hop,) = (await router.window(KNOWN[0], since)).hops
        assert (hop.served_by, hop.status) == ("baseline", 200)
        mine, foreign = (f"00-5b17{key}aabbccddeeff-1122334455667788-01" for key in (KNOWN[0], UNKNOWN))
        for trace, stays in ((mine, False), (foreign, True)):
            answer = await told.client.get(url, headers={"x-spurline-key": KNOWN[0], "traceparent": trace})
            assert (dict(answer.json()["headers"])["traceparent"] == trace) is stays
            assert KNOWN[0] not in answer.text
        assert (await told.client.get(url)).status_code == 200
    finally:
        await router.aclose()
