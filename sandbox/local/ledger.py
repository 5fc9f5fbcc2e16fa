"""The list, on disk, of what one driver started: for the next driver on the same folder, should both the driver and
its watchdog have been killed.

One JSON object a line, only ever appended to. A process is named by its id and its start time, so that an id which
the system gave to somebody else is never taken for ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_SAME_START_S: Final = 0.5
"""Start times are derived from the boot time, which moves a little when the clock is set."""


@dataclass(frozen=True, slots=True)
class Started:
    """One process, as it was written down."""

    pid: int
    born: float
    """Seconds since the epoch."""

    @property
    def still_runs(self) -> bool:
        """Whether this very process is still there."""
        born = born_at(self.pid)
        return born is not None and abs(born - self.born) < _SAME_START_S


def born_at(pid: int) -> float | None:
    """When the process started, None if there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


class Ledger:
    """An append-only file of processes and owner marks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, owner: str) -> None:
        """Start anew. Whatever an earlier driver wrote must have been dealt with."""
        self._path.write_text(json.dumps({"owner": owner}) + "\n")
        self._path.chmod(0o600)

    def add(self, pid: int) -> None:
        born = born_at(pid)
        if born is not None:
            self._append({"start": pid, "born": born})

    def remove(self, pid: int) -> None:
        self._append({"end": pid})

    def read(self) -> tuple[str, tuple[Started, ...]]:
        """The owner's mark and what it started and did not see end; a torn last line is passed over."""
        owner, running = "", dict[int, Started]()
        for entry in self._entries():
            if "owner" in entry:
                owner = str(entry["owner"])
            elif "start" in entry:
                pid = int(str(entry["start"]))
                running[pid] = Started(pid=pid, born=float(str(entry["born"])))
            elif "end" in entry:
                running.pop(int(str(entry["end"])), None)
        return owner, tuple(running.values())

    def _entries(self) -> Iterator[dict[str, object]]:
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry

    def _append(self, entry: dict[str, object]) -> None:
        with self._path.open("a") as ledger:
            ledger.write(json.dumps(entry) + "\n")
