"""A provider that allows 6 requests/s, and 100 agents: the share of rejected calls, and makespan over the ideal.

The provider is the rehearsal server, which takes 1 s a call, in a process of its own. Each agent makes its calls one
after the other, through the real client and SDK. The ideal is what the provider can do: its burst at once, then 6 a
second, and the last one's second. With the rate-limit headers, without them (as behind many gateways), and, to compare,
each agent for itself: 40 calls in flight at most, and the same client's own retries with jitter.
Budget: at most 5 % rejected, makespan within 10 %.

    python benchmarks/model_limits.py [--agents N] [--calls N] [--burst N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import httpx

from harness.agents.anthropic.client import CallLimits, ModelClient
from harness.agents.meter import Meter, OpenMeter
from harness.agents.rehearsal.limits import RateLimit
from harness.agents.rehearsal.server import serve_rehearsal
from harness.engine.budget import Budget, Caps
from harness.engine.model_limits import ModelLimits

RESULTS: Final = Path(__file__).parent / "results"
PER_S: Final = 6.0
LATENCY_S: Final = 1.0
IN_FLIGHT: Final = 40
REJECTED_LIMIT: Final = 0.05
RATIO_LIMIT: Final = 1.10


def provider(folder: Path, limit: RateLimit, pipe: Connection) -> None:
    """Serve until the other end says so."""

    async def serve() -> None:
        async with serve_rehearsal(folder, latency_s=LATENCY_S, limit=limit) as url:
            pipe.send(url)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(serve())


@asynccontextmanager
async def served(folder: Path, limit: RateLimit) -> AsyncIterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=provider, args=(folder, limit, theirs), daemon=True)
    process.start()
    try:
        yield await asyncio.to_thread(ours.recv)
    finally:
        ours.send(None)
        process.join()


async def fleet(url: str, meter: Meter, agents: int, calls: int) -> float:
    """Seconds until every agent has made its calls."""
    client = ModelClient(
        model="claude-sonnet-5-5",
        max_tokens=16_000,
        meter=meter,
        base_url=url,
        api_key="any",
        limits=CallLimits(tries=1_000),
    )
    messages = [{"role": "user", "content": [{"type": "text", "text": "Ticket one: do it"}]}]

    async def one(ticket: str) -> None:
        for _ in range(calls):
            await client.call(ticket, system=[], tools=[], messages=messages)

    async with client:
        began = time.monotonic()
        await asyncio.gather(*(one(f"t{number}") for number in range(agents)))
        return time.monotonic() - began


async def measured(folder: Path, limit: RateLimit, meter: Meter, agents: int, calls: int) -> dict[str, Any]:
    async with served(folder, limit) as url, httpx.AsyncClient(trust_env=False) as http:
        cpu = time.process_time()
        makespan_s = await fleet(url, meter, agents, calls)
        cpu = time.process_time() - cpu
        counts = (await http.get(f"{url}/_calls")).json()
    ideal_s = LATENCY_S + (agents * calls - limit.burst) / PER_S
    share = counts["rejected"] / (counts["answered"] + counts["rejected"])
    return {
        **counts,
        "rejected_share": share,
        "makespan_s": makespan_s,
        "ideal_s": ideal_s,
        "ratio": makespan_s / ideal_s,
        "client_cpu_ms_a_call": 1000 * cpu / (agents * calls),
        "within_budget": share <= REJECTED_LIMIT and makespan_s / ideal_s <= RATIO_LIMIT,
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--burst", type=int, default=6)
    options = parser.parse_args()
    result: dict[str, Any] = {
        "requests_per_s": PER_S,
        "latency_s": LATENCY_S,
        **vars(options),
        "cores": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "one.yaml").write_text("ticket: one\nturns: [{say: Done.}]\n")
        for name, headers in (("with_headers", True), ("without_headers", False), ("each_for_itself", True)):
            limit = RateLimit(requests_per_s=PER_S, burst=options.burst, headers=headers)
            shared = ModelLimits(Budget(run=Caps(), ticket=Caps()), model_calls=IN_FLIGHT)
            meter: Meter = shared if name != "each_for_itself" else OpenMeter(IN_FLIGHT)
            result[name] = await measured(folder, limit, meter, options.agents, options.calls)
            print(name, result[name])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "model_limits.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
