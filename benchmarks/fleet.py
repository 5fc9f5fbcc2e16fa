"""A hundred agents on the shop's backlog, with real forks and real checks: where the time goes, and a kill -9 survived.

The model is the rehearsal server, which takes 1 s a call, in a process of its own. First a run to its end: makespan,
and the seconds that tickets spent in each state, from the journal. Then another one, killed with -9 once every agent is
at work and gone on with by `runs resume`: the time from that command until the first of those agents, and the last,
works again.

    python benchmarks/fleet.py [--agents N] [--skip-run]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from demo import by_state
from provider import served
from shop_copy import RESULTS, Shop, commit, quiet, shop

from tasks.states import is_final

SPURLINE: Final = Path(sys.executable).with_name("spurline")
LATENCY_S: Final = 1.0
AT_WORK: Final = ("agent.state", "agent.activity", "model.call")


@contextmanager
def lines_of(copy: Shop, url: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
    """The process of a command with --json, and what it prints."""
    env = {**os.environ, "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "any"}
    command = [str(SPURLINE), *arguments, "--json"]
    with subprocess.Popen(
        command, cwd=copy.project.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield process, (json.loads(line) for line in process.stdout)


def to_its_end(copy: Shop, url: str, agents: int) -> dict[str, Any]:
    began = time.monotonic()
    with lines_of(copy, url, "run", "--agents", str(agents), "--tickets", str(agents)) as (process, told):
        lines = list(told)
    return {
        "exit_code": process.returncode,
        "makespan_s": time.monotonic() - began,
        "tickets": lines[-1].get("tickets"),
        "seconds_by_state": by_state(lines),
    }


def killed_and_resumed(copy: Shop, url: str, agents: int) -> dict[str, Any]:
    begun, last = set[str](), dict[str, Any]()
    with lines_of(copy, url, "run", "--agents", str(agents), "--tickets", str(agents)) as (process, told):
        for line in told:
            if line["event"] == "agent.state" and line.get("iterations"):
                begun.add(line["ticket"])
            if len(begun) == agents:
                break
        process.kill()
    began, seen, first_s, resumed = time.monotonic(), dict[str, float](), 0.0, set[str]()
    with lines_of(copy, url, "runs", "resume") as (process, told):
        for line in told:
            if line["event"] == "run.resumed":
                first_s = time.monotonic() - began
                resumed = {ticket for ticket, state in line["tickets"].items() if not is_final(state)}
            elif line["event"] in AT_WORK and line["ticket"] in resumed:
                seen.setdefault(line["ticket"], time.monotonic() - began)
            last = line
        process.wait()
    return {
        "at_work": len(resumed),
        "taken_up_s": first_s,
        "first_at_work_s": min(seen.values()),
        "all_at_work_s": max(seen.values()) if len(seen) == len(resumed) else None,
        "exit_code": process.returncode,
        "tickets": last.get("tickets"),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--skip-run", action="store_true", help="only the run that is killed")
    options = parser.parse_args()
    result: dict[str, Any] = {"agents": options.agents, "latency_s": LATENCY_S, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="spurline-bench-") as made, shop(Path(made)) as copy:
        settings = copy.project.root / "spurline.yaml"
        words = settings.read_text().replace("kind: rehearsal, recordings: recordings", "kind: anthropic")
        settings.write_text(words.replace("model_calls: 20", f"model_calls: {options.agents}"))
        commit(copy.project.root)
        copies = {one.id: one.origin for one in copy.project.backlog().multiplied(options.agents)}
        result["load_before"] = await quiet()
        async with served(copy.project.root / "recordings", copies, LATENCY_S) as url:
            for name, measure in (("run", to_its_end), ("resume", killed_and_resumed)):
                if name == "run" and options.skip_run:
                    continue
                result[name] = await asyncio.to_thread(measure, copy, url, options.agents)
                print(name, result[name], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fleet.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
