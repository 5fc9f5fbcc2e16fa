"""Fork ready: from `create` to the first proven response, over the same service's own bare start.

Both starts are of one service of the shop at a commit that nobody has run before, from a fresh tree: the driver's time
includes its checkout, the bare one's does not. They alternate, so that the machine's mood hits both. Alone, and
beside a hundred live sandboxes with a fork each. Budget: ratio of medians ≤ 1.10 and ≤ 50 ms more.

    python benchmarks/forks.py [--rounds N] [--live N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx
from shop_copy import RESULTS, Shop, bare, checkout, free_ports, quiet, shop, until_ready

from harness.runtime import connected
from sandbox.driver import Driver, Source

SERVICE: Final = "users"
RATIO_LIMIT: Final = 1.10
EXTRA_LIMIT_MS: Final = 50.0


async def fork_ms(driver: Driver, http: httpx.AsyncClient, commit: str, name: str) -> float:
    """From `create` to the first answer through the keyed ingress; that the fork gave it is proven by its hop."""
    since = await driver.cursor()
    began = time.perf_counter()
    box = await driver.create(name, ttl_s=600, sources={SERVICE: Source(commit=commit)})
    answer = await http.get(box.urls[SERVICE] + "/healthz")
    took_ms = (time.perf_counter() - began) * 1000
    hops = (await driver.window(name, since)).hops
    proven = [hop for hop in hops if (hop.service, hop.served_by, hop.generation) == (SERVICE, "fork", 1)]
    if answer.status_code != 200 or not proven:
        raise RuntimeError(f"{name} was not served by its fork: {answer.status_code}, {hops}")
    return took_ms


async def bare_ms(shop: Shop, http: httpx.AsyncClient, tree: Path) -> float:
    """From Popen to the same client's first answer, once the service is ready."""
    service, (port,) = shop.project.system().services[SERVICE], free_ports(1)
    began = time.perf_counter()
    with bare(service, tree, port, {}):
        await until_ready(service, port)
        (await http.get(f"http://127.0.0.1:{port}/healthz")).raise_for_status()
        return (time.perf_counter() - began) * 1000


async def compared(driver: Driver, shop: Shop, folder: Path, rounds: int, label: str) -> dict[str, Any]:
    """Alternate both starts `rounds` times."""
    forks, bares, again = [], [], []
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        for number in range(rounds):
            commit, tree = shop.change(SERVICE, hash((label, number))), folder / f"{label}-{number}"
            await asyncio.to_thread(checkout, shop.project.root, commit, tree)
            await asyncio.sleep(0.5)
            forks.append(await fork_ms(driver, http, commit, f"{label}-{number}"))
            await driver.delete(f"{label}-{number}")
            await asyncio.sleep(0.5)
            bares.append(await bare_ms(shop, http, tree))
            await asyncio.sleep(0.2)
            again.append(await bare_ms(shop, http, tree))
    fork, cold = statistics.median(forks), statistics.median(bares)
    return {
        "fork_ready_ms": forks,
        "bare_ms": bares,
        "bare_same_tree_again_ms": again,
        "median_fork_ready_ms": fork,
        "median_bare_ms": cold,
        "median_bare_again_ms": statistics.median(again),
        "ratio": fork / cold,
        "extra_ms": fork - cold,
        "within_budget": fork / cold <= RATIO_LIMIT and fork - cold <= EXTRA_LIMIT_MS,
    }


async def fill_up(driver: Driver, shop: Shop, live: int) -> float:
    """Make `live` sandboxes with a fork each, a few at a time; the seconds it took."""
    turns, commit = asyncio.Semaphore(8), shop.change(SERVICE, 0)

    async def one(number: int) -> None:
        async with turns:
            await driver.create(f"live-{number}", ttl_s=3600, sources={SERVICE: Source(commit=commit)})

    began = time.perf_counter()
    await asyncio.gather(*map(one, range(live)))
    return time.perf_counter() - began


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--live", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, shop(Path(made)) as copy:
        async with connected(copy.project) as driver:
            await driver.up(copy.project.system(), copy.base)
            try:
                load = await quiet()
                alone = await compared(driver, copy, Path(made), options.rounds, "alone")
                filled_s = await fill_up(driver, copy, options.live)
                crowd_load = await quiet()
                crowd = await compared(driver, copy, Path(made), options.rounds, "crowd")
            finally:
                await driver.down()
    result = {
        "service": SERVICE,
        "live_sandboxes": options.live,
        "load_before": {"alone": load, "crowd": crowd_load},
        "alone": alone,
        "beside_live_sandboxes": crowd,
        "seconds_to_fill": filled_s,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "forks.json").write_text(json.dumps(result, indent=1) + "\n")
    for name in ("alone", "beside_live_sandboxes"):
        print(name, {key: value for key, value in result[name].items() if not isinstance(value, list)})


if __name__ == "__main__":
    asyncio.run(main())
