"""Fork ready: from `create` to the first proven response, over the same service's own bare start.

All starts are of one service of the shop at a commit that nobody has run before, from a fresh tree: the driver's time
includes its checkout, the bare one's does not. They alternate, so that the machine's mood hits all. Two services, one
that starts quickly and one that does not; alone, and beside a hundred live sandboxes with a fork each. A fork runs in a
cage, which a bare service does not: the same without one (`confine: false`, a driver of its own) shows what that costs.
Budget: ratio of medians ≤ 1.10 and ≤ 50 ms more.

    python benchmarks/forks.py [--rounds N] [--live N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
from shop_copy import RESULTS, Shop, bare, checkout, free_ports, quiet, shop, until_ready

from sandbox.driver import Driver, Source
from sandbox.local.driver import LocalDriver
from sandbox.service import System

SERVICES: Final = ("users", "orders")
RATIO_LIMIT: Final = 1.10
EXTRA_LIMIT_MS: Final = 50.0


@asynccontextmanager
async def up(copy: Shop, state: Path, *, confine: bool) -> AsyncIterator[Driver]:
    """A driver with the shop up, in this process."""
    system = copy.project.system()
    services = {name: replace(service, confine=confine) for name, service in system.services.items()}
    async with LocalDriver(copy.project.root, state) as driver:
        await driver.up(replace(system, services=services), copy.base)
        yield driver


async def fork_ms(driver: Driver, http: httpx.AsyncClient, service: str, commit: str, name: str) -> float:
    """From `create` to the first answer through the keyed ingress; that the fork gave it is proven by its hop."""
    since = await driver.cursor()
    began = time.perf_counter()
    box = await driver.create(name, ttl_s=600, sources={service: Source(commit=commit)})
    answer = await http.get(box.urls[service] + "/healthz")
    took_ms = (time.perf_counter() - began) * 1000
    hops = (await driver.window(name, since)).hops
    await driver.delete(name)
    proven = [hop for hop in hops if (hop.service, hop.served_by, hop.generation) == (service, "fork", 1)]
    if answer.status_code != 200 or not proven:
        raise RuntimeError(f"{name} was not served by its fork: {answer.status_code}, {hops}")
    return took_ms


async def bare_ms(system: System, http: httpx.AsyncClient, name: str, tree: Path) -> float:
    """From Popen to the same client's first answer, once the service is ready."""
    service, (port,) = system.services[name], free_ports(1)
    began = time.perf_counter()
    with bare(service, tree, port, {}):
        await until_ready(service, port)
        (await http.get(f"http://127.0.0.1:{port}/healthz")).raise_for_status()
        return (time.perf_counter() - began) * 1000


async def compared(
    caged: Driver, free: Driver, copy: Shop, folder: Path, service: str, rounds: int, label: str
) -> dict[str, Any]:
    """Alternate all starts of a service `rounds` times."""
    system = copy.project.system()
    took: dict[str, list[float]] = {name: [] for name in ("fork", "fork_without_cage", "bare", "bare_again")}
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        for number in range(rounds):
            name = f"{label}-{service}-{number}"
            commit, tree = copy.change(service, hash((label, number))), folder / name
            await asyncio.to_thread(checkout, copy.project.root, commit, tree)
            await asyncio.sleep(0.5)
            took["fork"].append(await fork_ms(caged, http, service, commit, name))
            await asyncio.sleep(0.5)
            took["fork_without_cage"].append(await fork_ms(free, http, service, commit, name))
            await asyncio.sleep(0.5)
            took["bare"].append(await bare_ms(system, http, service, tree))
            await asyncio.sleep(0.2)
            took["bare_again"].append(await bare_ms(system, http, service, tree))
    median = {name: statistics.median(all_) for name, all_ in took.items()}
    result: dict[str, Any] = {"service": service, "ms": took, "median_ms": median}
    for name in ("fork", "fork_without_cage"):
        ratio, extra_ms = median[name] / median["bare"], median[name] - median["bare"]
        within = ratio <= RATIO_LIMIT and extra_ms <= EXTRA_LIMIT_MS
        result[name] = {"ratio": ratio, "extra_ms": extra_ms, "within_budget": within}
    return result


async def fill_up(driver: Driver, copy: Shop, live: int) -> float:
    """Make `live` sandboxes with a fork each, a few at a time; the seconds it took."""
    turns, commit = asyncio.Semaphore(8), copy.change(SERVICES[0], 0)

    async def one(number: int) -> None:
        async with turns:
            await driver.create(f"live-{number}", ttl_s=3600, sources={SERVICES[0]: Source(commit=commit)})

    began = time.perf_counter()
    await asyncio.gather(*map(one, range(live)))
    return time.perf_counter() - began


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--live", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, shop(Path(made)) as copy:
        folder = Path(made)
        async with (
            up(copy, folder / "caged", confine=True) as caged,
            up(copy, folder / "free", confine=False) as free,
        ):

            async def all_services(label: str) -> list[dict[str, Any]]:
                return [
                    await compared(caged, free, copy, folder, service, options.rounds, label) for service in SERVICES
                ]

            load = await quiet()
            alone = await all_services("alone")
            filled_s = await fill_up(caged, copy, options.live)
            crowd_load = await quiet()
            crowd = await all_services("crowd")
    result = {
        "live_sandboxes": options.live,
        "load_before": {"alone": load, "crowd": crowd_load},
        "alone": alone,
        "beside_live_sandboxes": crowd,
        "seconds_to_fill": filled_s,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "forks.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, rows in (("alone", alone), (f"beside {options.live} sandboxes", crowd)):
        for row in rows:
            print(name, {key: value for key, value in row.items() if key != "ms"})


if __name__ == "__main__":
    asyncio.run(main())
