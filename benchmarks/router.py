"""What the router costs over a plain Envoy proxy hop, and how soon a change of its table is live.

All hops run side by side in one process tree, in alternating rounds: the same binary with one worker, in front of the
same upstreams. One is a third Envoy that answers by itself, so that little but the hop is measured; the other is a
service of the shop, which is what a call in a system costs. The plain hop has no Lua, no route discovery, no tap and no
access log; a second listener of it writes Envoy's default line, as hops in production do. The router has all it ships
with.

A ratio is taken within a round, of a case and the one that it is compared with; of the ratios of all rounds, median and
quartiles are shown. The load is described in hop_load.py. `core` is the hop's share of its core while it is loaded, and
`idle` what nobody used of it: where a hop's core is idle, what stands behind the hop (the service of the shop) sets the
requests/s. Requests a core-second come from the CPU time that the kernel counts, and suffer least from other load.

Run: `python benchmarks/router.py [--rounds N]`; raw numbers go to benchmarks/results/router.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from hop_load import Case, Sample, connected, generator, sample
from shop_copy import RESULTS, bare, free_ports, quiet, shop, until_ready

from sandbox.carriers import fresh
from sandbox.keys import RoutingKey, new_key
from sandbox.router import KeyRoutes, Router, Target
from sandbox.router.envoy import Envoy
from sandbox.router.ports import fresh as fresh_ports
from sandbox.router.routes import typed
from sandbox.service import CLIENT, Service, System

SERVICE: Final = "loyalty"
SERVICE_PATH: Final = "/members/7"
COUNTS: Final = (0, 100, 1000)
CHANGES: Final = 15
BUDGET_P50: Final = 1.05
BUDGET_RPS: Final = 0.92
BUDGET_CHANGE_MS: Final = {100: 20.0, 1000: 80.0}

PLAIN: Final = "plain"
LOGGED: Final = "plain with a log line"
PLAIN_CARRIERS: Final = "plain, all carriers sent"
LOGGED_CARRIERS: Final = "plain with a log line, all carriers sent"
SERVICE_PLAIN: Final = f"{SERVICE}: plain, all carriers sent"
LOG_OF: Final = {PLAIN: LOGGED, PLAIN_CARRIERS: LOGGED_CARRIERS}
"""The same hop with a log line: what a routed case may be compared with as well."""


@dataclass(frozen=True, slots=True)
class Hops:
    """Everything that runs."""

    router: Router
    plain_pid: int
    plain: int
    logged: int
    service_plain: int
    upstreams: Mapping[str, str]
    slot: int

    def cases(self, keys: Sequence[RoutingKey]) -> list[Case]:
        """What is measured while these keys are live, each compared with a case of the same list."""
        plain, routed = self.plain_pid, self.router.pid
        hop = self.router.address(CLIENT, "orders")[1]
        found = [
            Case(PLAIN, PLAIN, self.plain, plain),
            Case(LOGGED, PLAIN, self.logged, plain),
            Case("routed, no key sent", PLAIN, hop, routed),
        ]
        if not keys:
            return found
        member, every = {"baggage": f"spurline-key={keys[0]}"}, fresh(keys[0])
        ingress = int(self.router.ingress(self.slot, "orders").rpartition(":")[2])
        service = self.router.address(CLIENT, SERVICE)[1]
        return [
            *found,
            Case("routed, key in baggage", PLAIN, hop, routed, member),
            Case("routed, by the ingress", PLAIN, ingress, routed),
            Case(PLAIN_CARRIERS, PLAIN_CARRIERS, self.plain, plain, every),
            Case(LOGGED_CARRIERS, PLAIN_CARRIERS, self.logged, plain, every),
            Case("routed, key in every carrier", PLAIN_CARRIERS, hop, routed, every),
            Case(SERVICE_PLAIN, SERVICE_PLAIN, self.service_plain, plain, every, SERVICE_PATH),
            Case(f"{SERVICE}: routed, key in every carrier", SERVICE_PLAIN, service, routed, every, SERVICE_PATH),
        ]

    def table(self, keys: Sequence[RoutingKey]) -> list[KeyRoutes]:
        """Every key forks one service, the first both; what runs as the baseline serves as the fork too."""
        both = {name: Target(address, 1) for name, address in self.upstreams.items()}
        one = {"orders": both["orders"]}
        return [
            KeyRoutes(key, key, one, slot=None) if number else KeyRoutes(key, key, both, slot=self.slot)
            for number, key in enumerate(keys)
        ]


def listener(port: int, route: Mapping[str, Any], *, logs: Path | None = None) -> dict[str, Any]:
    """A listener of a plain hop; `logs` is where its access log goes."""
    config = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="plain",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[
            {
                "name": "envoy.filters.http.router",
                "typed_config": typed("envoy.extensions.filters.http.router.v3.Router"),
            }
        ],
    )
    if logs is not None:
        log = typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", path=str(logs))
        config["access_log"] = [{"name": "envoy.access_loggers.file", "typed_config": log}]
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}
    return {"address": address(port), "filter_chains": [{"filters": [manager]}]}


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def to(upstream: int) -> dict[str, Any]:
    return {"match": {"prefix": "/"}, "route": {"cluster": str(upstream)}}


def cluster(upstream: int) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}]
    assignment = {"cluster_name": str(upstream), "endpoints": endpoints}
    return {"name": str(upstream), "type": "STATIC", "load_assignment": assignment}


async def plain_envoy(
    stack: AsyncExitStack, folder: Path, listeners: Sequence[dict[str, Any]], upstreams: Iterable[int] = ()
) -> int:
    """An Envoy as plain as it gets. Its process id."""
    folder.mkdir(parents=True)
    static = {"listeners": listeners, "clusters": [cluster(upstream) for upstream in upstreams]}
    (folder / "bootstrap.json").write_text(json.dumps({"static_resources": static}))
    envoy = Envoy(folder / "bootstrap.json", folder / "log")
    await envoy.start()
    stack.push_async_callback(envoy.stop)
    port = listeners[-1]["address"]["socket_address"]["port_value"]
    while True:
        try:
            connected(port).close()
            return envoy.pid
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)


async def started(stack: AsyncExitStack, folder: Path) -> tuple[Hops, tuple[int, ...]]:
    """Start all hops, and what stands behind them: its process ids."""
    copy, (own,) = stack.enter_context(shop(folder)), free_ports(1)
    service = copy.project.system().services[SERVICE]
    process = stack.enter_context(bare(service, copy.project.root, own, {}))
    await until_ready(service, own)
    answer = {"status": 200, "body": {"inline_string": '{"ok": true}'}}
    with fresh_ports(4) as (upstream, plain, logged, service_plain):
        itself = {"match": {"prefix": "/"}, "direct_response": answer}
        up_pid = await plain_envoy(stack, folder / "up", [listener(upstream, itself)])
        listeners = [
            listener(plain, to(upstream)),
            listener(logged, to(upstream), logs=folder / "access.log"),
            listener(service_plain, to(own)),
        ]
        plain_pid = await plain_envoy(stack, folder / "plain", listeners, (upstream, own))
    services = {"orders": Service("orders"), SERVICE: Service(SERVICE)}
    router = Router(folder / "router", System("bench", "orders", services))
    stack.push_async_callback(router.aclose)
    upstreams = {"orders": f"127.0.0.1:{upstream}", SERVICE: f"127.0.0.1:{own}"}
    await router.start(upstreams)
    slot = await router.reserve()
    return Hops(router, plain_pid, plain, logged, service_plain, upstreams, slot), (up_pid, process.pid)


async def measure(rounds: int) -> dict[str, Any]:
    """All cases, round by round; then the changes of the table."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spurline-bench-")))
        hops, behind = await started(stack, folder)
        keys = [new_key() for _ in range(max(COUNTS))]
        pool = stack.enter_context(generator(hops=(hops.plain_pid, hops.router.pid), others=behind))
        found: dict[int, list[dict[str, Sample]]] = {count: [] for count in COUNTS}
        for number in range(rounds):
            for count in COUNTS:
                await hops.router.apply(hops.table(keys[:count]))
                block = {}
                for case in turned(hops.cases(keys[:count]), number):
                    block[case.name] = await asyncio.get_running_loop().run_in_executor(pool, sample, case)
                found[count].append(block)
        return {
            "samples": {
                str(count): [{name: asdict(taken) for name, taken in block.items()} for block in blocks]
                for count, blocks in found.items()
            },
            "summary": [
                row(case, count, blocks) for count, blocks in found.items() for case in hops.cases(keys[:count])
            ],
            "change_live_ms": {str(count): await changes(hops, keys[:count]) for count in BUDGET_CHANGE_MS},
        }


def turned(cases: list[Case], number: int) -> list[Case]:
    """Each round begins with another case: none is always the first after a change of the table."""
    start = number % len(cases)
    return cases[start:] + cases[:start]


async def changes(hops: Hops, keys: Sequence[RoutingKey]) -> list[float]:
    """How long `apply` takes, each time with one key that is new; it returns when the worker has the table."""
    found = []
    for number in range(CHANGES):
        keys = [*keys[:number], new_key(), *keys[number + 1 :]]
        changed = hops.table(keys)
        started = time.perf_counter()
        await hops.router.apply(changed)
        found.append((time.perf_counter() - started) * 1e3)
    return sorted(found)


def row(case: Case, keys: int, blocks: Sequence[Mapping[str, Sample]]) -> dict[str, Any]:
    """Medians of a case; quartiles of its ratios to the case that it is compared with, and of requests a core to that
    one with a log line."""

    def ratios(field: str, over: str) -> list[float]:
        taken = [getattr(block[case.name], field) / getattr(block[over], field) for block in blocks]
        quartiles = statistics.quantiles(taken, n=4, method="inclusive") if len(taken) > 1 else taken * 3
        return [round(each, 3) for each in quartiles]

    fields = ("p50_us", "p99_us", "requests_per_s", "requests_per_core_s", "cpu_us", "core", "idle")
    medians = {
        field: statistics.median(float(getattr(block[case.name], field)) for block in blocks) for field in fields
    }
    compared = ("p50_us", "requests_per_s", "requests_per_core_s") if case.over != case.name else ()
    logged = LOG_OF.get(case.over) if "routed" in case.name else None
    return {
        "case": case.name,
        "keys": keys,
        "over": case.over,
        **{field: round(value, 3 if field in ("core", "idle") else 1) for field, value in medians.items()},
        **{f"{field}_ratio": ratios(field, case.over) for field in compared},
        **({"over_logged_ratio": ratios("requests_per_core_s", logged)} if logged else {}),
    }


def told(row: Mapping[str, Any]) -> str:
    """One line of the table."""

    def ratio(field: str) -> str:
        if (quartiles := row.get(f"{field}_ratio")) is None:
            return " " * 17
        low, middle, high = quartiles
        return f"({middle:.2f}: {low:.2f}–{high:.2f})"

    line = (
        f"{row['keys']:4} keys  {row['case']:41} p50 {row['p50_us']:5.0f} µs {ratio('p50_us')}  "
        f"{row['requests_per_s']:5.0f}/s {ratio('requests_per_s')}  core {row['core']:4.0%} idle {row['idle']:3.0%}  "
        f"{row['requests_per_core_s']:5.0f}/core-s {ratio('requests_per_core_s')}"
    )
    if "routed" not in row["case"]:
        return line.rstrip()
    if "over_logged_ratio" in row:
        line += f"  over the logged hop {ratio('over_logged')}"
    within = {"p50": row["p50_us_ratio"][1] <= BUDGET_P50, "requests/s": row["requests_per_s_ratio"][1] >= BUDGET_RPS}
    return f"{line}  " + ", ".join(f"{name} {'met' if met else 'missed'}" for name, met in within.items())


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    before = await quiet()
    result = await measure(rounds)
    result |= {"rounds": rounds, "cores": os.cpu_count(), "load_before": before, "load_after": os.getloadavg()[0]}
    (RESULTS / "router.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"Ratios over the plain hop of the same round: median: quartiles, {rounds} rounds. ", end="")
    print(f"Budget: p50 ≤ {BUDGET_P50}, requests/s ≥ {BUDGET_RPS}.")
    for each in result["summary"]:
        print(told(each))
    for count, times in result["change_live_ms"].items():
        middle, budget = statistics.median(times), BUDGET_CHANGE_MS[int(count)]
        verdict = "met" if middle <= budget else "missed"
        print(f"change live with {count} keys: {middle:.1f} ms (max {times[-1]:.1f}); budget {budget:.0f} ms {verdict}")
    print(f"load average {before:.1f} before, {result['load_after']:.1f} after")


if __name__ == "__main__":
    asyncio.run(main())
