"""The engine alone: 500 tickets of 4 model calls each, 100 at once, no forks, beside three peers.

The model is the rehearsal server, which takes 1 s a call, in a process of its own. Every contender is a process of its
own (benchmarks/contenders), one after the other, each with a provider that was just started; nobody's tools or
environments do anything. `nothing but http` shows what provider and machine take, whoever asks; `spurline in two` is a
run with one `spurline worker` beside it. Makespan is from the first call on, over what the model alone takes; CPU is
all that a contender's processes used, their start included; memory is the peak of its largest one. With --peers,
mini-swe-agent and Inspect AI are installed from the package index, each into a venv of its own. Budget: makespan at
most 1.05 of the ideal, CPU 60 ms a ticket.

    python benchmarks/loop.py [--tickets N] [--calls N] [--agents N] [--rounds N] [--peers] [--only NAME]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from provider import served
from shop_copy import RESULTS, quiet

CONTENDERS: Final = Path(__file__).resolve().parent / "contenders"
LATENCY_S: Final = 1.0
RATIO_LIMIT: Final = 1.05
CPU_LIMIT_MS: Final = 60.0
FIELDS: Final = ("ratio", "cpu_ms_a_ticket", "start_cpu_s", "peak_mib", "calls", "done")


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to work the tickets."""

    name: str
    script: str
    tool: str
    """What the recorded model calls, as JSON."""
    last: str = ""
    """The same, where the last call must be one too."""
    package: str | None = None
    """To be installed from the package index; None: what Spurline itself needs is enough."""
    processes: int = 1
    """Among how many the work is shared."""


CALLED: Final = (
    Contender("spurline", "spurline_loop.py", '{"tool": "read", "input": {"file_path": "one.txt"}}'),
    Contender(
        "spurline in two",
        "spurline_loop.py",
        '{"tool": "read", "input": {"file_path": "one.txt"}}',
        processes=2,
    ),
    Contender("nothing but http", "nothing_but_http.py", '{"tool": "read", "input": {"file_path": "one.txt"}}'),
    Contender("langgraph", "langgraph_bare.py", '{"tool": "read", "input": {"file_path": "one.txt"}}'),
    Contender(
        "mini-swe-agent",
        "mini_swe.py",
        '{"tool": "bash", "input": {"command": "cat one.txt"}}',
        '{"tool": "bash", "input": {"command": "submit"}}',
        "mini-swe-agent",
    ),
    Contender("inspect", "inspect_peer.py", '{"tool": "read", "input": {"file_path": "one.txt"}}', "", "inspect-ai"),
)


async def installed(package: str | None, venvs: Path) -> str | None:
    """The interpreter that has the package; None where it cannot be had."""
    if package is None:
        return sys.executable
    python = venvs / package / "bin" / "python"
    if not python.exists():
        print(f"{package}: installing", file=sys.stderr)
        making = [[sys.executable, "-m", "venv", str(venvs / package)], [str(python), "-m", "pip", "install", "-q"]]
        making[1] += [package, "anthropic"]
        for command in making:
            if (await asyncio.to_thread(subprocess.run, command, check=False)).returncode:
                return None
    return str(python)


def recorded(contender: Contender, calls: int, folder: Path) -> None:
    """Write what the model says: it calls a tool each time, and ends its turn in the last call."""
    last = f"{{use: [{contender.last}]}}" if contender.last else "{say: Done.}"
    turns = [f"{{use: [{contender.tool}]}}"] * (calls - 1) + [last]
    folder.mkdir(parents=True)
    (folder / "one.yaml").write_text("ticket: one\nturns:\n" + "".join(f"  - {turn}\n" for turn in turns))


def ended(command: list[str], folder: Path) -> tuple[int, resource.struct_rusage]:
    """Run the command to its end: its exit code, and what it used."""
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=folder)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used


async def lap(contender: Contender, python: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One contender, once."""
    recorded(contender, options.calls, folder / "recordings")
    (folder / "own").mkdir()
    tickets = [f"t{number}" for number in range(options.tickets)]
    async with (
        served(folder / "recordings", dict.fromkeys(tickets, "one"), LATENCY_S) as url,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        command = [python, str(CONTENDERS / contender.script), url, str(folder / "own"), str(options.agents), *tickets]
        if contender.processes > 1:
            command += ["--processes", str(contender.processes)]
        code, used = await asyncio.to_thread(ended, command, folder)
        if code:
            raise RuntimeError(f"{contender.name} failed: {(folder / 'err').read_text()[-2000:]}")
        calls = (await http.get(f"{url}/_calls")).json()["answered"]
    result = json.loads((folder / "out").read_text().splitlines()[-1])
    ideal_s = options.tickets * options.calls * LATENCY_S / options.agents
    return {
        **result,
        "calls": calls,
        "ratio": result["makespan_s"] / ideal_s,
        "cpu_ms_a_ticket": 1000 * (used.ru_utime + used.ru_stime) / options.tickets,
        "peak_mib": used.ru_maxrss / 1024,
        "load": os.getloadavg()[0],
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=500)
    parser.add_argument("--calls", type=int, default=4)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="install and run the peers from the package index too")
    parser.add_argument("--venvs", type=Path, help="keep the peers' virtual environments here")
    parser.add_argument("--only", action="append", help="one contender; may be given more than once")
    options = parser.parse_args()
    laps: dict[str, list[dict[str, Any]]] = {}
    missing: list[str] = []
    with tempfile.TemporaryDirectory(prefix="spurline-bench-") as made:
        venvs = options.venvs or Path(made) / "venvs"
        able = {}
        for one in CALLED:
            if (options.only and one.name not in options.only) or (one.package and not options.peers):
                continue
            python = await installed(one.package, venvs)
            if python is None:
                missing.append(one.name)
                print(f"{one.name}: cannot be installed here, so it is left out")
            else:
                able[one] = python
        before = await quiet()
        for number in range(options.rounds):
            for one, python in able.items():
                taken = await lap(one, python, Path(made) / f"{one.name}-{number}", options)
                laps.setdefault(one.name, []).append(taken)
                print(one.name, {name: round(taken[name], 3) for name in FIELDS}, file=sys.stderr)
    medians = {
        name: {field: statistics.median(one[field] for one in all_) for field in FIELDS} for name, all_ in laps.items()
    }
    for name, row in medians.items():
        print(f"{name:17} " + "  ".join(f"{field} {value:.3f}" for field, value in row.items()))
    said = {name: getattr(options, name) for name in ("tickets", "calls", "agents", "rounds")}
    result: dict[str, Any] = {**said, "latency_s": LATENCY_S, "cores": os.cpu_count(), "load_before": before}
    result |= {"left_out": missing, "medians": medians, "laps": laps}
    if (ours := medians.get("spurline")) is not None:
        within = {"ratio": ours["ratio"] <= RATIO_LIMIT, "cpu_ms_a_ticket": ours["cpu_ms_a_ticket"] <= CPU_LIMIT_MS}
        result["within_budget"] = within
        print(f"budget: makespan ≤ {RATIO_LIMIT} of the ideal, CPU ≤ {CPU_LIMIT_MS:g} ms a ticket: {within}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "loop.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
