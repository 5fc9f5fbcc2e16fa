"""What the router costs over a plain Envoy proxy hop, and how soon a change of its table is live.

Both hops run side by side in one process tree, in alternating rounds: the same binary with one worker, in front of the
same upstream (a third Envoy that answers by itself, so that little else is measured). The plain hop has no Lua, no
route discovery, no tap and no access log; the router has all it ships with.

The load comes from this process over bare sockets: one connection and one request at a time for the latencies, eight
connections of 16 requests in the pipe for requests/s. Where there are two cores, the hop that is measured has one of
its own. CPU time a request is read from the kernel and suffers least from other load on the machine.

Run: `python benchmarks/router.py [--rounds N]`; raw numbers go to benchmarks/results/router.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import selectors
import socket
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from sandbox.carriers import fresh
from sandbox.keys import RoutingKey, new_key
from sandbox.router import KeyRoutes, Router, Target
from sandbox.router.envoy import Envoy
from sandbox.router.ports import fresh as fresh_ports
from sandbox.router.routes import typed
from sandbox.service import CLIENT, Service, System

RESULTS: Final = Path(__file__).parent / "results" / "router.json"
WARM_UP: Final = 50
REQUESTS: Final = 500
CONNECTIONS: Final = 8
DEPTH: Final = 16
LOAD_S: Final = 1.0
CHANGES: Final = 15
PAYLOAD: Final = "plain, all carriers as payload"
BUDGET_P50: Final = 1.05
BUDGET_RPS: Final = 0.92
BUDGET_CHANGE_MS: Final = {100: 20.0, 1000: 80.0}


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one case."""

    p50_us: float
    p99_us: float
    requests_per_s: float
    cpu_us: float


Pair = tuple[Sample, Sample]
"""A sample, and the plain hop's that was taken in the same minute: other load on the machine hits both."""
FIELDS: Final = ("p50_us", "p99_us", "requests_per_s", "cpu_us")


@dataclass(frozen=True, slots=True)
class Case:
    """One way through a hop: where to, with which headers."""

    name: str
    port: int
    headers: Mapping[str, str]
    pid: int

    @property
    def request(self) -> bytes:
        lines = ["GET /orders/17 HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Accept: */*"]
        return "\r\n".join([*lines, *(f"{k}: {v}" for k, v in self.headers.items()), "", ""]).encode()


def connected(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def latencies_us(case: Case) -> list[float]:
    """One request at a time over one connection, sorted."""
    found = []
    with connected(case.port) as line:
        for _ in range(WARM_UP + REQUESTS):
            started = time.perf_counter()
            line.sendall(case.request)
            answer = line.recv(65536)
            found.append((time.perf_counter() - started) * 1e6)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{case.name}: {answer[:300]!r}")
    return sorted(found[WARM_UP:])


def load(case: Case) -> tuple[float, float]:
    """Requests/s of a saturated hop, and its CPU time a request in microseconds."""
    process = psutil.Process(case.pid)
    with selectors.DefaultSelector() as ready:
        lines = [connected(case.port) for _ in range(CONNECTIONS)]
        for line in lines:
            line.sendall(case.request * DEPTH)
            line.setblocking(False)
            ready.register(line, selectors.EVENT_READ)
        answered, first, cpu = 0, 0, 0.0
        begun = since = time.perf_counter()
        while (now := time.perf_counter()) < begun + LOAD_S * 1.2:
            if not cpu and now > begun + LOAD_S * 0.2:
                first, cpu, since = answered, sum(process.cpu_times()[:2]), now
            for key, _ in ready.select(1):
                line = lines[[entry.fileno() for entry in lines].index(key.fd)]
                count = line.recv(1 << 18).count(b"HTTP/1.1 200")
                answered += count
                line.send(case.request * count)
        used, took = sum(process.cpu_times()[:2]) - cpu, time.perf_counter() - since
        for line in lines:
            line.close()
    return (answered - first) / took, used / (answered - first) * 1e6


def sample(case: Case) -> Sample:
    found = latencies_us(case)
    rate, cpu = load(case)
    return Sample(statistics.median(found), found[int(len(found) * 0.99)], rate, cpu)


def manager(routes: list[dict[str, Any]]) -> dict[str, Any]:
    router = typed("envoy.extensions.filters.http.router.v3.Router")
    config = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="plain",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        http_filters=[{"name": "envoy.filters.http.router", "typed_config": router}],
    )
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


async def plain_envoy(stack: AsyncExitStack, folder: Path, port: int, upstream: int | None) -> int:
    """An Envoy as plain as it gets: a hop to `upstream`, or (None) one that answers by itself. Its process id."""
    match = {"prefix": "/"}
    answer = {"status": 200, "body": {"inline_string": '{"ok": true}'}}
    route = (
        {"match": match, "direct_response": answer}
        if upstream is None
        else {"match": match, "route": {"cluster": "up"}}
    )
    clusters = (
        []
        if upstream is None
        else [
            {
                "name": "up",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "up",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}],
                },
            }
        ]
    )
    listener = {"address": address(port), "filter_chains": [{"filters": [manager([route])]}]}
    folder.mkdir(parents=True)
    (folder / "bootstrap.json").write_text(
        json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}})
    )
    envoy = Envoy(folder / "bootstrap.json", folder / "log")
    await envoy.start()
    stack.push_async_callback(envoy.stop)
    while True:
        try:
            connected(port).close()
            return envoy.pid
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)


def table(keys: list[RoutingKey], upstream: int, slot: int) -> list[KeyRoutes]:
    target = Target(f"127.0.0.1:{upstream}", 1)
    return [
        KeyRoutes(key, key, {"orders": target}, slot=slot if number == 0 else None) for number, key in enumerate(keys)
    ]


async def measure(rounds: int) -> dict[str, Any]:
    """All cases, round by round; then the changes of the table."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spurline-bench-")))
        with fresh_ports(2) as (upstream, plain):
            up_pid = await plain_envoy(stack, folder / "up", upstream, None)
            plain_pid = await plain_envoy(stack, folder / "plain", plain, upstream)
        router = Router(folder / "router", System("bench", "orders", {"orders": Service("orders")}))
        stack.push_async_callback(router.aclose)
        await router.start({"orders": f"127.0.0.1:{upstream}"})
        pin(others=(os.getpid(), up_pid), measured=(plain_pid, router.pid))
        slot = await router.reserve()
        hop = router.address(CLIENT, "orders")[1]
        keys = [new_key() for _ in range(1000)]
        found: dict[str, list[Pair]] = {}
        for _ in range(rounds):
            for count in (0, 100, 1000):
                await router.apply(table(keys[:count], upstream, slot))
                ways = [Case("plain", plain, {}, plain_pid), Case(f"{count} keys, no key sent", hop, {}, router.pid)]
                if count:
                    member = {"baggage": f"spurline-key={keys[0]}"}
                    every = fresh(keys[0])
                    port = int(router.ingress(slot, "orders").rpartition(":")[2])
                    ways += [
                        Case(PAYLOAD, plain, every, plain_pid),
                        Case(f"{count} keys, key in baggage", hop, member, router.pid),
                        Case(f"{count} keys, key in every carrier", hop, every, router.pid),
                        Case(f"{count} keys, by the ingress", port, {}, router.pid),
                    ]
                block: dict[str, Sample] = {}
                for case in ways:
                    block[case.name] = await asyncio.to_thread(sample, case)
                    base = block[PAYLOAD if "every carrier" in case.name else "plain"]
                    found.setdefault(case.name, []).append((block[case.name], base))
        return {
            "samples": {
                name: [{"hop": asdict(hop), "plain": asdict(base)} for hop, base in pairs]
                for name, pairs in found.items()
            },
            "summary": summary(found),
            "change_live_ms": {
                str(count): await changes(router, keys[:count], upstream, slot) for count in (100, 1000)
            },
        }


def pin(*, others: tuple[int, ...], measured: tuple[int, ...]) -> None:
    """Give what is measured a core of its own, where the system lets us."""
    cores = psutil.Process().cpu_affinity() if platform.system() == "Linux" else []
    if not cores or len(cores) < 2:
        return
    for pids, core in ((measured, cores[0]), (others, cores[1])):
        for pid in pids:
            for thread in psutil.Process(pid).threads():
                os.sched_setaffinity(thread.id, {core})


async def changes(router: Router, keys: list[RoutingKey], upstream: int, slot: int) -> list[float]:
    """How long `apply` takes, each time with one key that is new; it returns when the worker has the table."""
    found = []
    for number in range(CHANGES):
        keys = [*keys[:number], new_key(), *keys[number + 1 :]]
        changed = table(keys, upstream, slot)
        started = time.perf_counter()
        await router.apply(changed)
        found.append((time.perf_counter() - started) * 1e3)
    return sorted(found)


def summary(found: Mapping[str, list[Pair]]) -> list[dict[str, Any]]:
    """Medians of each case, and the medians of its ratios to the plain hop that was measured just before."""

    def median(pairs: list[Pair], field: str) -> float:
        return round(float(statistics.median(getattr(hop, field) for hop, _ in pairs)), 1)

    def ratio(pairs: list[Pair], field: str) -> float:
        return round(float(statistics.median(getattr(hop, field) / getattr(base, field) for hop, base in pairs)), 3)

    return [
        {
            "case": name,
            **{field: median(pairs, field) for field in FIELDS},
            **{f"{field}_ratio": ratio(pairs, field) for field in FIELDS},
        }
        for name, pairs in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    before = os.getloadavg()[0]
    result = asyncio.run(measure(rounds))
    result |= {"rounds": rounds, "cores": os.cpu_count(), "load_before": before, "load_after": os.getloadavg()[0]}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    for row in result["summary"]:
        within = row["p50_us_ratio"] <= BUDGET_P50 and row["requests_per_s_ratio"] >= BUDGET_RPS
        print(
            f"{row['case']:36} p50 {row['p50_us']:7.0f} µs ({row['p50_us_ratio']:.2f})  p99 {row['p99_us']:7.0f} µs  "
            f"{row['requests_per_s']:6.0f} requests/s ({row['requests_per_s_ratio']:.2f})  "
            f"cpu {row['cpu_us']:5.0f} µs ({row['cpu_us_ratio']:.2f})  {'within' if within else 'over'} budget"
        )
    for count, times in result["change_live_ms"].items():
        middle = statistics.median(times)
        within = middle <= BUDGET_CHANGE_MS[int(count)]
        verdict = "within" if within else "over"
        print(f"change live with {count} keys: {middle:.1f} ms (max {times[-1]:.1f})  {verdict} budget")
    print(f"load average {before:.1f} before, {result['load_after']:.1f} after")


if __name__ == "__main__":
    main()
