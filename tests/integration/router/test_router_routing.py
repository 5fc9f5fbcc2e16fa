"""Keyed requests reach their forks, all others the baseline; what cannot be trusted is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sandbox.keys import RoutingKey, masked, new_key, trace_id
from sandbox.router import KeyRoutes, Target
from tasks.errors import SandboxError

if TYPE_CHECKING:
    from tests.integration.router.conftest import MakeWorld, World

EXTRA = ("x-request-id",)


def carriers(key: RoutingKey) -> dict[str, dict[str, str]]:
    return {
        "header": {"x-spurline-key": key},
        "baggage": {"baggage": f"user=7, spurline-key={key};ttl=1"},
        "tracestate": {"tracestate": f"vendor=1,spurline-key={key}"},
        "trace-id": {"traceparent": f"00-{trace_id(key, 'aabbccdd')}-1122334455667788-01"},
        "other": {"x-request-id": trace_id(key, "aabbccdd")},
    }


@pytest.mark.parametrize("carrier", ["header", "baggage", "tracestate", "trace-id", "other"])
async def test_a_key_in_any_carrier_reaches_the_fork(make_world: MakeWorld, carrier: str) -> None:
    world: World = await make_world(carriers=EXTRA)
    box = await world.sandbox({"users": await world.fork("users", "users v2")})
    since = await world.router.cursor()

    answer = await world.client.get(world.url("users"), headers=carriers(box.key)[carrier])

    assert answer.json()["name"] == "users v2"
    sent = dict(answer.json()["headers"])
    assert sent["x-spurline-key"] == box.key
    assert f"spurline-key={box.key}" in sent["baggage"]
    assert f"spurline-key={box.key}" in sent["tracestate"]
    assert sent["traceparent"].startswith(f"00-5b17{box.key}")
    assert box.key in sent["x-request-id"]
    (hop,) = (await world.seen(box.key, since)).hops
    assert (hop.carriers, hop.served_by, hop.generation) == ((carrier,), "fork", 1)
    assert (hop.caller, hop.service, hop.status) == ("client", "users", 200)


async def test_a_trace_id_made_by_hand_reaches_the_fork_and_stays_as_it_is(world: World) -> None:
    box = await world.sandbox({"users": await world.fork("users", "users v2")})
    given = {"traceparent": f"00-5b17{box.key}aabbccddeeff-1122334455667788-01"}
    answer = await world.client.get(world.url("users"), headers=given)
    assert answer.json()["name"] == "users v2"
    assert dict(answer.json()["headers"])["traceparent"] == given["traceparent"]


async def test_a_foreign_trace_that_begins_with_the_mark_is_let_alone(make_world: MakeWorld) -> None:
    world: World = await make_world(carriers=EXTRA)
    box = await world.sandbox({"users": await world.fork("users", "users v2")})
    trace = f"5b17{new_key()}aabbccdd"
    since = await world.router.cursor()
    for end in ("0000", "ffff"):
        given = {"traceparent": f"00-{trace}{end}-1122334455667788-01", "x-request-id": f"{trace}{end}"}
        answer = await world.client.get(world.url("users"), headers=given)
        assert (answer.status_code, answer.json()["name"]) == (200, "users")
        assert given.items() <= dict(answer.json()["headers"]).items()
        keyed = await world.client.get(world.url("users"), headers={**given, **carriers(box.key)["header"]})
        assert keyed.json()["name"] == "users v2"
        assert dict(keyed.json()["headers"])["traceparent"] == f"00-{trace_id(box.key, 'aabbccdd')}-1122334455667788-01"
    window = await world.seen(box.key, since)
    assert [hop.carriers for hop in window.hops] == [("header",), ("header",)]
    assert [hop.status for hop in window.strays] == [200, 200]


async def test_an_expired_key_is_refused_though_only_the_trace_id_was_handed_on(world: World) -> None:
    box = await world.sandbox({"users": await world.fork("users", "users v2")})
    answer = await world.client.get(world.url("web"), headers=carriers(box.key)["baggage"])
    handed_on = {"traceparent": dict(answer.json()["headers"])["traceparent"]}
    await world.router.apply([])
    answer = await world.client.get(world.url("users"), headers=handed_on)
    assert (answer.status_code, answer.json()["error"]) == (421, "unknown routing key")


async def test_without_a_key_nothing_is_touched(world: World) -> None:
    await world.sandbox({"users": await world.fork("users", "users v2")})
    given = {"baggage": "user=7", "tracestate": "vendor=1", "X-Request-Id": "me", "accept": "a/b"}

    answer = await world.client.get(world.url("users"), headers=given)

    assert answer.json()["name"] == "users"
    sent = dict(answer.json()["headers"])
    assert {name: sent[name.lower()] for name in given} == given
    assert not [name for name in sent if "spurline" in name or "envoy" in name]


async def test_a_service_that_is_not_forked_falls_back_to_the_baseline_and_keeps_the_key(world: World) -> None:
    box = await world.sandbox({"users": await world.fork("users", "users v2")})
    since = await world.router.cursor()

    answer = await world.client.get(world.url("web"), headers=carriers(box.key)["baggage"])

    assert answer.json()["name"] == "web"
    assert dict(answer.json()["headers"])["x-spurline-key"] == box.key
    (hop,) = (await world.seen(box.key, since)).hops
    assert (hop.served_by, hop.generation, hop.upstream) == ("baseline", None, world.peers["web"].address)


async def test_each_calling_pair_is_told_apart(world: World) -> None:
    since = await world.router.cursor()
    await world.client.get(world.url("users", caller="web"))
    hops = (await world.seen(new_key(), since)).strays
    assert [(hop.caller, hop.service) for hop in hops] == [("web", "users")]
    with pytest.raises(SandboxError, match="'users' does not call 'web'"):
        world.router.address("users", "web")


async def test_an_unknown_key_is_refused_and_masked(world: World) -> None:
    key = new_key()
    since = await world.router.cursor()
    answer = await world.client.get(world.url("users"), headers=carriers(key)["header"])
    assert answer.status_code == 421
    assert answer.json()["error"] == "unknown routing key"
    assert answer.json()["key"] == masked(key)
    assert key not in answer.text
    window = await world.seen(key, since)
    assert [(hop.served_by, hop.status, hop.routed) for hop in window.hops] == [("refused", 421, False)]
    assert window.strays == ()
    assert (await world.seen(new_key(), since)).strays == window.hops, "to others it is somebody without a key"


async def test_an_unknown_key_may_fall_back_where_that_is_configured(make_world: MakeWorld) -> None:
    world: World = await make_world(unknown_key="baseline")
    since, key = await world.router.cursor(), new_key()
    answer = await world.client.get(world.url("users"), headers=carriers(key)["baggage"])
    assert (answer.status_code, answer.json()["name"]) == (200, "users")
    window = await world.seen(key, since)
    assert window.hops == ()
    assert [(hop.key, hop.served_by) for hop in window.strays] == [(None, "baseline")]
    malformed = await world.client.get(world.url("users"), headers={"x-spurline-key": "nonsense"})
    assert malformed.status_code == 421


async def test_carriers_that_disagree_are_refused_by_name(world: World) -> None:
    box = await world.sandbox({})
    other = RoutingKey("0" * 16)
    since = await world.router.cursor()
    headers = carriers(box.key)["trace-id"] | carriers(other)["baggage"]
    answer = await world.client.get(world.url("users"), headers=headers)
    assert answer.status_code == 421
    assert answer.json()["error"] == "routing keys disagree"
    assert answer.json()["carriers"] == [
        {"carrier": "baggage", "key": "0000…"},
        {"carrier": "trace-id", "key": masked(box.key)},
    ]
    for key in (box.key, other):
        (hop,) = (await world.seen(key, since)).hops
        assert (hop.served_by, hop.carriers) == ("refused", ("baggage", "trace-id"))


async def test_an_empty_key_is_refused_rather_than_ignored(world: World) -> None:
    answer = await world.client.get(world.url("users"), headers={"x-spurline-key": ""})
    assert answer.status_code == 421
    assert answer.json()["carriers"] == ["header"]


async def test_an_entry_of_the_table_that_is_no_key_is_malformed(world: World) -> None:
    box = await world.sandbox({"users": await world.fork("users", "users v2")})
    for number in range(len(world.peers)):
        forged = f"{box.key}.{number}"
        for headers in ({"x-spurline-key": forged}, {"baggage": f"spurline-key={forged}"}):
            answer = await world.client.get(world.url("users"), headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (421, "malformed routing key")


async def test_internal_headers_of_a_client_have_no_effect(world: World) -> None:
    box = await world.sandbox({"users": await world.fork("users", "users v2")}, slot=3)
    forged = {"x-spurline-cluster": "baseline/web", "x-spurline-slot": "3"}
    answer = await world.client.get(world.url("users"), headers=forged)
    assert answer.json()["name"] == "users"
    assert not [name for name, _ in answer.json()["headers"] if "spurline" in name]
    keyed = await world.client.get(world.url("users"), headers=forged | carriers(box.key)["header"])
    assert keyed.json()["name"] == "users v2"
    twice = [
        *forged.items(),
        ("X-Spurline-Cluster", "baseline/web"),
        ("x-envoy-original-dst-host", world.peers["web"].address),
        ("x-envoy-retry-on", "5xx"),
        ("connection", "x-spurline-cluster"),
    ]
    assert (await world.client.get(world.url("users"), headers=twice)).json()["name"] == "users"
    keyed = await world.client.get(world.url("users") + "/fail", headers=[*twice, ("x-spurline-key", box.key)])
    assert keyed.status_code == 500
    assert world.peers["web"].served == 0


async def test_a_planted_fault_answers_503_for_its_key_and_service_only(world: World) -> None:
    fork = await world.fork("users", "users v2")
    key = new_key()
    forks = {"users": Target(fork.address, 2)}
    await world.router.apply([KeyRoutes("box", key, forks, faults=frozenset({"users"}))])
    since = await world.router.cursor()
    headers = carriers(key)["header"]

    assert (await world.client.get(world.url("users"), headers=headers)).status_code == 503
    assert (await world.client.get(world.url("web"), headers=headers)).status_code == 200
    assert (await world.client.get(world.url("users"))).status_code == 200
    hops = (await world.seen(key, since)).hops
    assert [(hop.service, hop.served_by) for hop in hops] == [("users", "fault"), ("web", "baseline")]

    await world.router.apply([KeyRoutes("box", key, forks)])
    assert (await world.client.get(world.url("users"), headers=headers)).json()["name"] == "users v2"


async def test_updates_under_load_fail_no_request(world: World) -> None:
    old, new = await world.fork("users", "old"), await world.fork("users", "new")
    key, headers = new_key(), {}
    headers = carriers(key)["baggage"]
    done = asyncio.Event()
    statuses: list[int] = []

    async def load() -> None:
        while not done.is_set():
            statuses.append((await world.client.get(world.url("users"), headers=headers)).status_code)

    def table(generation: int) -> list[KeyRoutes]:
        target = Target((old, new)[generation % 2].address, generation)
        others = [KeyRoutes(str(n), new_key(), {"users": target}) for n in range(50)]
        return [KeyRoutes("box", key, {"users": target}), *others]

    await world.router.apply(table(0))
    since = await world.router.cursor()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(load())
        for generation in range(1, 30):
            await world.router.apply(table(generation))
            answer = await world.client.get(world.url("users"), headers=headers)
            assert answer.json()["name"] == ("old", "new")[generation % 2]
        done.set()

    assert set(statuses) == {200}
    window = await world.seen(key, since)
    assert len(window.hops) == len(statuses) + 29
    assert window.dropped == 0
    assert {hop.generation for hop in window.hops} >= set(range(1, 30))


async def test_concurrent_changes_are_written_together(world: World) -> None:
    keys = [new_key() for _ in range(40)]
    tables = [[KeyRoutes(key, key) for key in keys[: n + 1]] for n in range(40)]
    await asyncio.gather(*(world.router.apply(table) for table in tables))
    for key in keys:
        answer = await world.client.get(world.url("users"), headers=carriers(key)["header"])
        assert answer.status_code == 200


async def test_two_hundred_sandboxes_come_and_go(world: World) -> None:
    fork = await world.fork("users", "users v2")
    table: dict[str, KeyRoutes] = {}
    for number in range(200):
        routes = KeyRoutes(f"box {number}", new_key(), {"users": Target(fork.address, 1)})
        table[routes.name] = routes
        if number % 10 == 9:
            await world.router.apply(list(table.values()))
    keys = [routes.key for routes in table.values()]
    for key in keys[::20]:
        answer = await world.client.get(world.url("users"), headers=carriers(key)["header"])
        assert answer.json()["name"] == "users v2"
    await world.router.apply([])
    for key in keys[::20]:
        answer = await world.client.get(world.url("users"), headers=carriers(key)["header"])
        assert answer.status_code == 421
