"""A sandbox of one service against a second copy of the whole baseline: memory, and time by wall and processors.

By the wall the copy gains from each processor, since its services all start at once, and the sandbox's one service from
one alone: with two, a service like the others takes 2/N of the copy's time. Processor time says what each costs.

The copy is as cheap as a copy can be: its tree is there already, its services call each other directly, and it needs no
router. The sandbox pays for all that it makes grow: its fork's processes, and what the router and the keeper hold more
than before. Memory is what would be free again (USS) and the fair share (PSS). Budget for N services: 1/N plus 10 %.

    python benchmarks/clone.py [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import psutil
from shop_copy import RESULTS, Shop, bare, checkout, free_ports, quiet, shop, until_ready

from harness.runtime import connected
from sandbox.driver import Driver, Source
from sandbox.local.client import KeeperDriver

SERVICE: Final = "users"
BATCH: Final = 10
"""So many sandboxes are measured together: what the router grows by for one is below what can be seen."""
EXTRA: Final = 0.10


def memory(pids: Iterable[int]) -> dict[str, float]:
    """USS and PSS of the processes and all below them, in MiB."""
    full = []
    for process in map(psutil.Process, pids):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # a git that just ended
                full.append(each.memory_full_info())
    return {"uss": sum(f.uss for f in full) / 2**20, "pss": sum(getattr(f, "pss", f.uss) for f in full) / 2**20}


def processor_s(pids: Iterable[int]) -> float:
    """Processor time that the processes, all below them and those of theirs that ended have taken, in seconds."""
    times = []
    for process in map(psutil.Process, pids):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times.append(each.cpu_times())
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


async def clone(copy: Shop, tree: Path) -> dict[str, float]:
    """Start every service once more, all at once; seconds until all are ready, and their memory."""
    services = copy.project.system().services
    ports = dict(zip(services, free_ports(len(services)), strict=True))
    began = time.perf_counter()
    with ExitStack() as stack:
        started = [stack.enter_context(bare(each, tree, ports[name], ports)) for name, each in services.items()]
        await asyncio.gather(*(until_ready(each, ports[name]) for name, each in services.items()))
        seconds = time.perf_counter() - began
        pids = [process.pid for process in started]
        return {"seconds": seconds, "processor_s": processor_s(pids), **memory(pids)}


async def sandboxes(driver: Driver, copy: Shop, keeper: int, label: str) -> dict[str, float]:
    """A batch of sandboxes one after another: seconds for one, and by how much one makes everything grow."""
    before, before_s = memory([keeper]), processor_s([keeper])
    seconds, names = [], [f"{label}-{number}" for number in range(BATCH)]
    for number, name in enumerate(names):
        commit = copy.change(SERVICE, hash((label, number)))
        await asyncio.sleep(0.3)
        began = time.perf_counter()
        await driver.create(name, ttl_s=600, sources={SERVICE: Source(commit=commit)})
        seconds.append(time.perf_counter() - began)
    spent_s = (processor_s([keeper]) - before_s) / BATCH
    grown = {kind: (after - before[kind]) / BATCH for kind, after in memory([keeper]).items()}
    await asyncio.gather(*map(driver.delete, names))
    return {"seconds": statistics.median(seconds), "processor_s": spent_s, **grown}


def summary(clones: list[dict[str, float]], boxes: list[dict[str, float]], services: int) -> dict[str, Any]:
    limit = 1 / services * (1 + EXTRA)
    ratios = {
        kind: statistics.median(box[kind] for box in boxes) / statistics.median(one[kind] for one in clones)
        for kind in ("seconds", "processor_s", "uss", "pss")
    }
    return {
        "services": services,
        "limit": limit,
        "ratios": ratios,
        "within_budget": {kind: ratio <= limit for kind, ratio in ratios.items()},
        "clone": clones,
        "sandbox": boxes,
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds: int = parser.parse_args().rounds
    clones, boxes = [], []
    with tempfile.TemporaryDirectory() as made, shop(Path(made)) as copy:
        async with connected(copy.project) as driver:
            assert isinstance(driver, KeeperDriver)
            hello = await driver.hello()
            assert hello is not None
            await driver.up(copy.project.system(), copy.base)
            try:
                load = await quiet()
                for number in range(rounds):
                    tree = Path(made) / f"tree-{number}"
                    await asyncio.to_thread(checkout, copy.project.root, copy.base, tree)
                    boxes.append(await sandboxes(driver, copy, hello.pid, f"round-{number}"))
                    clones.append(await clone(copy, tree))
            finally:
                await driver.down()
    result = {"load_before": load, **summary(clones, boxes, len(copy.project.system().services))}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "clone.json").write_text(json.dumps(result, indent=1) + "\n")
    print({key: value for key, value in result.items() if key not in ("clone", "sandbox")})


if __name__ == "__main__":
    asyncio.run(main())
