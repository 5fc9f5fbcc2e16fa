"""Hop records, failing exchanges and the life of the process: nothing is missed silently, nothing leaks."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from sandbox.keys import new_key
from sandbox.router import KeyRoutes, Router
from sandbox.router import captures as captures_module
from sandbox.router import reader as reader_module
from sandbox.router import records as records_module
from sandbox.router.captures import SWEEP_LIMIT
from sandbox.service import CLIENT, Service, System
from tasks.errors import SandboxError

if TYPE_CHECKING:
    from tests.integration.router.conftest import MakeWorld, World


async def burst(world: World, count: int, *, key: str, path: str = "/") -> None:
    limit = asyncio.Semaphore(16)

    async def one() -> None:
        async with limit:
            await world.client.get(world.url("users") + path, headers={"x-spurline-key": key})

    await asyncio.gather(*(one() for _ in range(count)))


async def test_a_window_holds_exactly_what_was_sent(world: World) -> None:
    box = await world.sandbox({})
    for _ in range(5):
        since = await world.router.cursor()
        await burst(world, 100, key=box.key)
        window = await world.seen(box.key, since)
        assert (len(window.hops), window.dropped) == (100, 0)


async def test_windows_of_two_sandboxes_do_not_mix(world: World) -> None:
    keys = [new_key(), new_key()]
    await world.router.apply([KeyRoutes(key, key) for key in keys])
    since = await world.router.cursor()
    await asyncio.gather(*(burst(world, 60, key=key) for key in keys))
    first, second = await asyncio.gather(*(world.seen(key, since) for key in keys))
    assert len(first.hops) == len(second.hops) == 60
    assert {hop.key for hop in first.hops} == {keys[0]}


async def test_the_file_is_replaced_without_losing_a_record(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(records_module, "FILE_LIMIT_BYTES", 20_000)
    box = await world.sandbox({})
    since = await world.router.cursor()
    for _ in range(6):
        await burst(world, 100, key=box.key)
        await world.router._reader.sweep()
    window = await world.seen(box.key, since)
    assert (len(window.hops), window.dropped) == (600, 0)
    files = list((tmp_path / "router").glob("records.log*"))
    assert sum(path.stat().st_size for path in files) < 150_000
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


async def test_a_line_that_is_no_record_counts_as_dropped(world: World, tmp_path: Path) -> None:
    box = await world.sandbox({})
    since = await world.router.cursor()
    with (tmp_path / "router" / "records.log").open("a") as file:
        file.write('{"p": 0, "half a rec\n')
    assert (await world.seen(box.key, since)).dropped == 1


async def test_a_client_cannot_shift_the_fields_of_its_record(world: World) -> None:
    box = await world.sandbox({})
    since = await world.router.cursor()
    said = [("GET /-|x|f9", value) for value in (f"a\tb-{box.key}", "1\x1f2", "1\n2", "-")]
    said += [(words, "-") for words in ("GET /a\x1fb", "GET /a\x0bb", "GE\x1fT /a", "G\x7fT /a")]
    for words, value in said:
        host, port = world.router.address(CLIENT, "users")
        reader, writer = await asyncio.open_connection(host, port)
        lines = (f"{words} HTTP/1.1", "host: x", f"x-spurline-key: {box.key}", f"traceparent: {value}")
        writer.write("\r\n".join([*lines, "connection: close", "", ""]).encode())
        await reader.read()
        writer.close()
        await writer.wait_closed()
    window = await world.seen(box.key, since)
    assert window.dropped == 0
    assert {(hop.served_by, hop.status, hop.path) for hop in window.hops} == {("baseline", 200, "/-|x|f9")}
    assert {hop.status for hop in window.strays} == {400}


async def test_hops_that_had_to_be_let_go_count_as_dropped(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "KEYED_HOPS", 50)
    world: World = await make_world()
    box = await world.sandbox({})
    early = await world.router.cursor()
    await burst(world, 60, key=box.key)
    await world.seen(box.key, early)
    late = await world.router.cursor()
    await burst(world, 10, key=box.key)
    assert (await world.seen(box.key, early)).dropped == 1
    window = await world.seen(box.key, late)
    assert (len(window.hops), window.dropped) == (10, 0)


async def test_a_failing_exchange_is_captured_redacted_and_capped(world: World, tmp_path: Path) -> None:
    box = await world.sandbox({"users": await world.fork("users", "users v2")})
    since = await world.router.cursor()
    headers = {"x-spurline-key": box.key, "authorization": "Bearer secret", "x-note": "kept"}
    await world.client.post(
        world.url("users") + "/fail", headers=headers, json={"user": 7, "password": "hunter2", "pad": "y" * 40_000}
    )
    await world.client.get(world.url("users"), headers={"x-spurline-key": box.key})
    await world.client.get(world.url("users") + "/fail")

    (exchange,) = (await world.seen(box.key, since)).exchanges

    assert (exchange.caller, exchange.service, exchange.status) == ("client", "users", 500)
    assert (exchange.method, exchange.path, exchange.truncated) == ("POST", "/fail", True)
    assert "no such column" in exchange.response_body
    assert '"user":7' in exchange.request_body
    assert exchange.request_headers["x-note"] == "kept"
    shown = repr(replace(exchange, key=None))
    assert not [secret for secret in ("hunter2", "Bearer", "session=abc", box.key) if secret in shown]
    assert len(exchange.request_body) < 17 * 1024  # what is redacted may grow a little
    assert len(exchange.response_body) < 17 * 1024
    assert list((tmp_path / "router" / "captures").iterdir()) == []


async def test_what_only_the_baseline_serves_is_captured_however_it_ends(world: World, tmp_path: Path) -> None:
    box = await world.sandbox({})
    since = await world.router.cursor()
    headers = {"x-spurline-key": box.key, "x-spurline-watch": "0"}
    answer = await world.client.post(world.url("users") + "/fine", headers=headers, json={"token": "hunter2"})
    await world.client.get(world.url("users") + "/?status=404", headers=headers)
    window = await world.seen(box.key, since)
    (fine,), (failed,) = window.fine, window.exchanges
    assert (fine.method, fine.path, fine.status, failed.status) == ("POST", "/fine", 200, 404)
    assert '"name":"users"' in fine.response_body
    assert "hunter2" not in repr(fine)
    # The service hears nothing of that.
    assert not [name for name, _ in answer.json()["headers"] if name.startswith("x-spurline-watch")]
    assert list((tmp_path / "router" / "captures").iterdir()) == []


async def test_of_a_sandbox_with_forks_only_what_fails_is_captured_whoever_asks_for_more(world: World) -> None:
    box = await world.sandbox({"users": await world.fork("users", "users v2")})
    since = await world.router.cursor()
    headers = {"x-spurline-key": box.key, "x-spurline-watch": "1"}
    for service in ("users", "web"):
        await world.client.get(world.url(service), headers=headers)
    window = await world.seen(box.key, since)
    assert (len(window.hops), window.fine, window.exchanges) == (2, (), ())


async def test_a_flood_of_what_goes_well_is_captured_in_part_and_leaves_no_files(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slowly the flood comes: it is more than is read at a time.
    monkeypatch.setattr(captures_module, "SWEEP_LIMIT", 1)
    box = await world.sandbox({})
    since = await world.router.cursor()
    await burst(world, 200, key=box.key)
    window = await world.seen(box.key, since)
    assert len(window.hops) == 200
    assert 0 < len(window.fine) < 200
    assert list((tmp_path / "router" / "captures").iterdir()) == []


async def test_a_flood_of_failures_leaves_no_files(world: World, tmp_path: Path) -> None:
    box = await world.sandbox({})
    since = await world.router.cursor()
    await burst(world, 150, key=box.key, path="/?status=404")
    window = await world.seen(box.key, since)
    assert len(window.hops) == 150
    assert 0 < len(window.exchanges) <= SWEEP_LIMIT
    assert list((tmp_path / "router" / "captures").iterdir()) == []


async def test_the_key_is_in_no_log_that_people_read(world: World, tmp_path: Path) -> None:
    box = await world.sandbox({})
    await world.client.get(world.url("users"), headers={"x-spurline-key": box.key})
    assert box.key not in (tmp_path / "router" / "envoy.log").read_text()
    assert (tmp_path / "router").stat().st_mode & 0o077 == 0


async def test_a_killed_router_comes_back_on_the_same_ports_with_the_same_table(world: World) -> None:
    slot = await world.router.reserve()
    box = await world.sandbox({"users": await world.fork("users", "users v2")}, slot=slot)
    urls = (world.url("users"), world.router.ingress(slot, "users"))
    since = await world.router.cursor()
    assert not await world.router.revive()

    os.kill(world.router.pid, signal.SIGKILL)
    psutil.Process(world.router.pid).wait()
    assert not world.router.alive
    assert (await world.seen(box.key, since)).dropped >= 1

    assert await world.router.revive()
    assert world.router.alive
    async with httpx.AsyncClient(trust_env=False) as client:
        for url in urls:
            answer = await client.get(url, headers={"x-spurline-key": box.key})
            assert answer.json()["name"] == "users v2"
    assert (await world.seen(box.key, since)).dropped >= 1
    after = await world.router.cursor()
    assert (await world.seen(box.key, after)).dropped == 0


async def test_a_cursor_taken_while_the_router_is_dead_hides_no_loss(world: World) -> None:
    box = await world.sandbox({})
    os.kill(world.router.pid, signal.SIGKILL)
    psutil.Process(world.router.pid).wait()
    since = await world.router.cursor()
    assert await world.router.revive()
    assert (await world.seen(box.key, since)).dropped >= 1


async def test_a_port_that_was_taken_meanwhile_is_named(world: World) -> None:
    os.kill(world.router.pid, signal.SIGKILL)
    psutil.Process(world.router.pid).wait()
    host, port = world.router.address(CLIENT, "users")
    with socket.create_server((host, port)), pytest.raises(SandboxError, match=f"port {port} on {host}"):
        await world.router.revive()
    assert await world.router.revive()
    assert (await world.client.get(world.url("users"))).status_code == 200


async def test_a_port_that_is_taken_for_a_moment_only_is_waited_for(world: World, tmp_path: Path) -> None:
    before = world.router.pid
    os.kill(before, signal.SIGKILL)
    psutil.Process(before).wait()
    host, port = world.router.address(CLIENT, "users")
    reviving = asyncio.create_task(world.router.revive())
    while not world.router.alive:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    os.kill(world.router.pid, signal.SIGSTOP)
    with socket.create_server((host, port)):
        os.kill(world.router.pid, signal.SIGCONT)
        while "Address already in use" not in (tmp_path / "router" / "envoy.log").read_text():  # noqa: ASYNC110 - it is Envoy that tells
            await asyncio.sleep(0.05)
    assert await reviving
    assert (await world.client.get(world.url("users"))).status_code == 200


async def test_a_dead_router_says_so_when_the_table_changes(world: World) -> None:
    os.kill(world.router.pid, signal.SIGKILL)
    psutil.Process(world.router.pid).wait()
    with pytest.raises(SandboxError, match="Envoy ended"):
        await world.router.apply([])


async def test_a_table_that_comes_while_the_router_is_revived_is_live_after_it(world: World) -> None:
    before = world.router.pid
    os.kill(before, signal.SIGKILL)
    psutil.Process(before).wait()
    reviving = asyncio.create_task(world.router.revive())
    while not world.router.alive:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    os.kill(world.router.pid, signal.SIGSTOP)
    applying = asyncio.create_task(world.router.apply([KeyRoutes("box", key := new_key())]))
    await asyncio.sleep(0)
    os.kill(world.router.pid, signal.SIGCONT)
    assert await reviving
    await applying
    answer = await world.client.get(world.url("users"), headers={"x-spurline-key": key})
    assert answer.json()["name"] == "users"


async def test_closed_while_it_is_revived_the_router_stays_dead(world: World) -> None:
    os.kill(world.router.pid, signal.SIGKILL)
    psutil.Process(world.router.pid).wait()
    reviving = asyncio.create_task(world.router.revive())
    await asyncio.sleep(0)
    await world.router.aclose()
    await asyncio.wait([reviving])
    assert reviving.exception() is not None
    assert not world.router.alive
    assert not await world.router.revive()


async def test_nothing_is_left_after_closing(world: World, tmp_path: Path) -> None:
    pid = world.router.pid
    await world.router.aclose()
    assert not psutil.pid_exists(pid)
    assert list((tmp_path / "router").glob("*.sock")) == []


async def test_a_folder_too_deep_for_sockets_is_no_problem(make_world: MakeWorld, tmp_path: Path) -> None:
    world: World = await make_world(folder=tmp_path / ("deep" * 20) / "router")
    assert (await world.client.get(world.url("users"))).status_code == 200
    admin = world.router._sockets
    assert admin is not None
    await world.router.aclose()
    assert not admin.admin.parent.exists()


async def test_a_system_that_envoy_cannot_serve_is_explained(tmp_path: Path) -> None:
    router = Router(tmp_path / "router", System("p", "a", {"a": Service("a")}))
    with pytest.raises(SandboxError, match="of service 'a' cannot be routed to"):
        await router.start({"a": "http://127.0.0.1:80/prefix"})
    assert router.pid == 0


async def test_a_service_that_does_not_run_yet_is_a_503_and_a_hop(world: World) -> None:
    router = Router(world.router._folder.parent / "other", System("p", "a", {"a": Service("a")}))
    try:
        await router.start({"a": "127.0.0.1:1"})
        key = new_key()
        await router.apply([KeyRoutes("box", key)])
        since = await router.cursor()
        host, port = router.address(CLIENT, "a")
        answer = await world.client.get(f"http://{host}:{port}", headers={"x-spurline-key": key})
        assert answer.status_code == 503
        (hop,) = (await router.window(key, since)).hops
        assert (hop.flags, hop.routed) == ("UF", False)
    finally:
        await router.aclose()
