"""What every contender of benchmarks/loop.py does alike: it is told its lap, and says how long it took."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

PROMPT = "Ticket {ticket}: read one file\n\nRead what is there, and say when you are done."


@dataclass(frozen=True)
class Lap:
    """So many tickets, so many at once, against the provider at `url`. `folder` is the contender's own."""

    url: str
    folder: Path
    agents: int
    tickets: tuple[str, ...]
    processes: int = 1
    """Among how many processes a contender that can shares the work."""
    joins: bool = False
    """Whether this is one of the others."""


def told() -> Lap:
    """The lap, as the command line says it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("agents", type=int)
    parser.add_argument("tickets", nargs="+")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--joins", action="store_true")
    said = parser.parse_args()
    return Lap(said.url, said.folder, said.agents, tuple(said.tickets), said.processes, said.joins)


class Watch:
    """Runs from its making on. What went before was the start of the process."""

    def __init__(self) -> None:
        self._cpu_s, self._began = time.process_time(), time.monotonic()

    def stop(self, done: int) -> None:
        """Print seconds since the start, CPU of this process before it and since, and how many tickets came through."""
        makespan_s, cpu_s = time.monotonic() - self._began, time.process_time()
        result = {"makespan_s": makespan_s, "start_cpu_s": self._cpu_s, "work_cpu_s": cpu_s - self._cpu_s, "done": done}
        print(json.dumps(result))
