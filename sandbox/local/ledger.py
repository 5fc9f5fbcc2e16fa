"""The list, on disk, of what one driver started: for the next driver on the same folder, should both the driver and
its watchdog have been killed.

One JSON object a line, only ever appended to. A process is named by its id and its start time, so that an id which
the system gave to somebody else is never taken for ours; that time counts from the machine's own start, so the first
line says which one it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.presence import boot, born_at, keeps_id


@dataclass(frozen=True, slots=True)
class Started:
    """One process, as it was written down."""

    pid: int
    born: float
    """See `sandbox.presence.born_at`."""

    @property
    def still_runs(self) -> bool:
        """Whether this very process is still there, or was not looked after yet."""
        return keeps_id(self.pid, self.born)


class Ledger:
    """An append-only file of processes and owner marks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, owner: str) -> None:
        """Start anew. Whatever an earlier driver wrote must have been dealt with."""
        self._path.write_text(json.dumps({"owner": owner, "boot": boot()}) + "\n")
        self._path.chmod(0o600)

    def add(self, pid: int) -> None:
        born = born_at(pid)
        if born is not None:
            self._append({"start": pid, "born": born})

    def remove(self, pid: int) -> None:
        self._append({"end": pid})

    def read(self) -> tuple[str, tuple[Started, ...]]:
        """The owner's mark and what it started and did not see end; a torn last line is passed over."""
        owner, since, running = "", "", dict[int, Started]()
        for entry in self._entries():
            if "owner" in entry:
                owner, since = str(entry["owner"]), str(entry.get("boot", ""))
            elif "start" in entry:
                pid = int(str(entry["start"]))
                running[pid] = Started(pid=pid, born=float(str(entry["born"])))
            elif "end" in entry:
                running.pop(int(str(entry["end"])), None)
        # What was started before the machine began anew ended with it.
        return owner, tuple(running.values()) if since == boot() else ()

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
