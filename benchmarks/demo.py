"""`make demo` from nothing, and with a hundred agents: minutes, what they went into, CPU and peak memory.

    python benchmarks/demo.py [--agents 100] [--skip-install]

CPU is that of every process that took part (the bench is their reaper); memory is the peak over all of them of the sum
of proportional set sizes, sampled twice a second. Raw numbers go to benchmarks/results/demo.json.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
SPURLINE = Path(sys.executable).with_name("spurline")
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--skip-install", action="store_true")
    options = parser.parse_args()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    results: dict[str, Any] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
    with tempfile.TemporaryDirectory(prefix="spurline-bench-") as folder:
        if not options.skip_install:
            results["install_s"] = install(Path(folder) / "venv")
            print(f"install from the lock file: {results['install_s']:.1f} s")
        for name, arguments in (("demo", ()), (f"demo_{options.agents}", ("--agents", str(options.agents)))):
            results[name] = measured(Path(folder) / name, arguments)
            show(name, results[name])
    place = ROOT / "benchmarks" / "results" / "demo.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(results, indent=1) + "\n")


def install(venv: Path) -> float:
    """Seconds for what `make` does before its first demo."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(ROOT / "requirements.lock")], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", str(ROOT)], check=True)
    return time.monotonic() - began


def measured(folder: Path, arguments: tuple[str, ...]) -> dict[str, Any]:
    """One demo: makespan, CPU, peak memory, and where each ticket's time went."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    peak = Peak()
    with peak:
        done = subprocess.run(
            [str(SPURLINE), "demo", "--dir", str(folder), "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        seconds = time.monotonic() - began
        reap()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        "exit_code": done.returncode,
        "makespan_s": seconds,
        "cpu_user_s": after.ru_utime - before.ru_utime,
        "cpu_system_s": after.ru_stime - before.ru_stime,
        "peak_memory_mib": peak.bytes / 2**20,
        "peak_processes": peak.processes,
        "tickets": lines[-1].get("tickets"),
        "seconds_by_state": by_state(lines),
    }


class Peak(threading.Thread):
    """Samples the memory of all our descendants."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self.processes = 0
        self._over = threading.Event()

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(0.5):
            total = count = 0
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    info = process.memory_full_info()
                    total += getattr(info, "pss", info.uss)
                    count += 1
            self.bytes, self.processes = max(self.bytes, total), max(self.processes, count)


def reap() -> None:
    """Wait for what was detached and has ended, so that it counts."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.1)
        except ChildProcessError:
            return


def by_state(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds that tickets spent in each state, summed over all of them."""
    spent: defaultdict[str, float] = defaultdict(float)
    last: dict[str, tuple[str, float]] = {}
    for line in lines:
        if line["event"] == "agent.state":
            if line["ticket"] in last:
                state, since = last[line["ticket"]]
                spent[state] += line["at"] - since
            last[line["ticket"]] = (line["state"], line["at"])
    return {state: round(seconds, 1) for state, seconds in sorted(spent.items())}


def show(name: str, result: dict[str, Any]) -> None:
    print(
        f"{name}: {result['makespan_s']:.1f} s, CPU {result['cpu_user_s'] + result['cpu_system_s']:.1f} s, "
        f"peak {result['peak_memory_mib']:.0f} MiB in {result['peak_processes']} processes, {result['tickets']}"
    )
    print(f"  seconds by state: {result['seconds_by_state']}")


if __name__ == "__main__":
    main()
