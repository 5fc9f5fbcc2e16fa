"""The keyed ingress: a plain URL that adds the key, keeps redirects inside, and belongs to one sandbox at a time."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from sandbox.keys import RoutingKey, new_key, trace_id
from sandbox.router import KeyRoutes
from sandbox.router.ingress import BLOCK_SLOTS
from sandbox.service import CLIENT

if TYPE_CHECKING:
    from tests.integration.router.conftest import World


async def test_a_plain_request_gets_every_carrier(world: World) -> None:
    slot = await world.router.reserve()
    box = await world.sandbox({"users": await world.fork("users", "users v2")}, slot=slot)
    since = await world.router.cursor()

    given = {"traceparent": "00-000102030405060708090a0b0c0d0e0f-1122334455667788-01", "baggage": "user=7"}
    answer = await world.client.get(world.router.ingress(slot, "users"), headers=given)

    assert answer.json()["name"] == "users v2"
    sent = dict(answer.json()["headers"])
    assert sent["traceparent"] == f"00-{trace_id(box.key, '0a0b0c0d')}-1122334455667788-01"
    assert sent["baggage"] == f"user=7,spurline-key={box.key}"
    assert "x-spurline-slot" not in sent
    (hop,) = (await world.seen(box.key, since)).hops
    assert (hop.caller, hop.carriers, hop.served_by) == ("client", (), "fork")


async def test_the_same_key_may_come_along_but_no_other(world: World) -> None:
    slot = await world.router.reserve()
    box = await world.sandbox({}, slot=slot)
    url = world.router.ingress(slot, "web")
    same = await world.client.get(url, headers={"x-spurline-key": box.key})
    assert same.status_code == 200
    other = await world.client.get(url, headers={"baggage": f"spurline-key={new_key()}"})
    assert (other.status_code, other.json()["error"]) == (421, "routing keys disagree")
    assert [said["carrier"] for said in other.json()["carriers"]] == ["ingress", "baggage"]


async def test_a_slot_that_nobody_has_is_refused(world: World) -> None:
    slot = await world.router.reserve()
    answer = await world.client.get(world.router.ingress(slot, "web"))
    assert (answer.status_code, answer.json()["error"]) == (421, "no sandbox at this address")


async def test_a_slot_that_is_used_again_reaches_its_new_sandbox_only(world: World) -> None:
    slots = [await world.router.reserve() for _ in range(BLOCK_SLOTS)]
    old, new = RoutingKey("a" * 16), RoutingKey("b" * 16)
    slot = slots[5]
    url = world.router.ingress(slot, "web")
    await world.router.apply([KeyRoutes("old", old, slot=slot)])
    assert dict((await world.client.get(url)).json()["headers"])["x-spurline-key"] == old

    await world.router.apply([])
    world.router.release(slot)
    assert (await world.client.get(url)).status_code == 421
    assert await world.router.reserve() == slot
    await world.router.apply([KeyRoutes("new", new, slot=slot)])
    assert dict((await world.client.get(url)).json()["headers"])["x-spurline-key"] == new
    assert (await world.client.get(world.url("web"), headers={"x-spurline-key": old})).status_code == 421


async def test_the_pool_grows_when_many_ask_at_once(world: World) -> None:
    count = 2 * BLOCK_SLOTS + 1
    slots = await asyncio.gather(*(world.router.reserve() for _ in range(count)))
    assert len(set(slots)) == count
    keys = [new_key() for _ in slots]
    await world.router.apply([KeyRoutes(key, key, slot=slot) for key, slot in zip(keys, slots, strict=True)])
    for key, slot in list(zip(keys, slots, strict=True))[:: BLOCK_SLOTS // 2]:
        answer = await world.client.get(world.router.ingress(slot, "web"))
        assert dict(answer.json()["headers"])["x-spurline-key"] == key


async def test_redirects_stay_inside(world: World) -> None:
    slot = await world.router.reserve()
    fork = await world.fork("users", "users v2")
    await world.sandbox({"users": fork}, slot=slot)
    users, web = (world.router.ingress(slot, name) for name in ("users", "web"))
    cases = {
        f"http://{fork.address}/next?a=1": f"{users}/next?a=1",
        f"http://localhost:{world.peers['users'].address.split(':')[1]}/": f"{users}/",
        f"{world.url('web')}/login": f"{web}/login",
        "/relative": "/relative",
        "https://elsewhere.example/x": "https://elsewhere.example/x",
        "http://127.0.0.1:9/x": "http://127.0.0.1:9/x",
    }
    for location, expected in cases.items():
        answer = await world.client.get(f"{users}/redirect", params={"to": location})
        assert answer.headers["location"] == expected


async def test_nobody_can_listen_at_an_address_of_the_router_beside_it(world: World) -> None:
    """What runs as the same user, a fork for one, would be handed some of the connections."""
    ingress = urlsplit(world.router.ingress(await world.router.reserve(), "web"))
    for host, port in (world.router.address(CLIENT, "web"), (ingress.hostname, ingress.port)):
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="in use"):
                thief.bind((host, port))
