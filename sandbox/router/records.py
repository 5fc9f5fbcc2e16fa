"""The records of hops: Envoy's access log, read as it grows, kept in memory while it may still be asked for.

One line a hop (`sandbox.router.lines`), and one more for streams that are still open. What holds: every line is either
a hop, a mark of ours, or counted in `dropped`; the file on disk is replaced before it grows past a cap; memory holds a
bounded number of hops, and a window that reaches behind them is told so.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, get_args

from sandbox.exchanges import redact
from sandbox.hops import Carrier, Hop, ServedBy
from sandbox.router.lines import fields

FILE_LIMIT_BYTES: Final = 8 * 1024 * 1024
_BLOCK_BYTES: Final = 64 * 1024
_MARKS: Final = 1000
_CARRIERS: Final[dict[str, Carrier]] = {carrier: carrier for carrier in get_args(Carrier)}
_SERVED: Final[dict[str, ServedBy]] = {"f": "fork", "b": "baseline", "r": "refused", "x": "fault"}
_END: Final = "DownstreamEnd"


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the file: the hop once for each key that the request named, or once without."""

    hops: tuple[Hop, ...]
    stream: tuple[int, str]
    ended: bool


class RecordFile:
    """The file that Envoy appends to: read to its end, and replaced when it is large, without losing a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._old = path.with_name(path.name + ".old")
        self._file: IO[bytes] | None = None
        self._rest = b""
        self._moved = False

    @property
    def is_large(self) -> bool:
        return not self._moved and self._file is not None and self._file.tell() > FILE_LIMIT_BYTES

    def create(self) -> None:
        """An empty file that only we can read."""
        self.close()
        self._old.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        self._path.touch(mode=0o600)
        self._file = self._path.open("rb")

    def move_away(self) -> None:
        """Rename the file; Envoy must be told to reopen it. Lines in the old one are still read first."""
        self._path.rename(self._old)
        self._moved = True

    def batches(self) -> Iterator[list[bytes] | None]:
        """All complete lines that came since the last call; None where the file was cut behind our back."""
        while self._file is not None:
            block = self._file.read(_BLOCK_BYTES)
            if block:
                *found, self._rest = (self._rest + block).split(b"\n")
                yield found
            elif os.fstat(self._file.fileno()).st_size < self._file.tell():
                self._file.seek(0)
                yield None
            elif not self._follow():
                return

    def forget_rest(self) -> None:
        """Whoever wrote the last line has died in the middle of it."""
        self._rest = b""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._rest, self._moved = b"", False

    def _follow(self) -> bool:
        """Go on to the new file once the old one is read; whether there is more to read.

        One thread of Envoy's closes the old file and then opens the new one: when that exists, the old is complete.
        """
        if not self._moved or not self._path.exists() or self._file is None:
            return False
        rest = self._file.read()
        if rest:
            self._file.seek(-len(rest), os.SEEK_CUR)
            return True
        self._file.close()
        self._old.unlink(missing_ok=True)
        self._file = self._path.open("rb")
        self._moved = False
        return True


class Records:
    """Hops by key, and those without any or with a wrong one, in the order in which they ended."""

    def __init__(self, file: RecordFile, pairs: Sequence[tuple[str, str]], *, keyed: int, strays: int) -> None:
        self._file = file
        self._pairs = pairs
        self._keyed_limit, self._stray_limit = keyed, strays
        self._by_key: defaultdict[str, deque[tuple[int, Hop]]] = defaultdict(deque)
        self._order: deque[str] = deque()
        self._strays: deque[tuple[int, Hop]] = deque()
        self._open: dict[tuple[int, str], tuple[Hop, ...]] = {}
        self._marks: deque[str] = deque(maxlen=_MARKS)
        self._horizon = 0
        self.count = 0
        """How many hops have been read."""
        self.dropped = 0
        """Lines that were no record, and gaps."""

    def read(self) -> Iterator[None]:
        """Take in what has come, to its end; yields between batches, so that the caller can let others run."""
        for batch in self._file.batches():
            if batch is None:
                self.dropped += 1
                continue
            for line in batch:
                self._take(line)
            yield

    def has_mark(self, mark: str) -> bool:
        return mark in self._marks

    def gap(self) -> None:
        """Envoy died: what was in its buffer is lost, and streams that were open will not be reported again."""
        self._file.forget_rest()
        self.dropped += 1
        self._open.clear()

    def missed(self, since: int) -> int:
        """1 where hops that came after `since` had to be let go before they were asked for."""
        return int(self._horizon > since)

    def of(self, key: str, since: int, at: float) -> tuple[Hop, ...]:
        """Hops with the key that were read after the `since`th and began at or after `at`, by beginning."""
        return self._selected(self._by_key.get(key, ()), key, since, at)

    def strays(self, key: str, since: int, at: float) -> tuple[Hop, ...]:
        """The same of hops without a key, and of those that were refused for a key that is not `key`."""
        found = self._selected(self._strays, None, since, at)
        return tuple(hop for hop in found if hop.key != key)

    def _selected(self, kept: Sequence[tuple[int, Hop]], key: str | None, since: int, at: float) -> tuple[Hop, ...]:
        found = [hop for hops in self._open.values() for hop in hops if hop.key == key and hop.at >= at]
        for number, hop in reversed(kept):
            if number <= since:
                break
            if hop.at >= at:
                found.append(hop)
        return tuple(sorted(found, key=lambda hop: (hop.at, -hop.duration_ms)))

    def _take(self, line: bytes) -> None:
        try:
            read = fields(line)
            if "mark" in read:
                self._marks.append(read["mark"])
                return
            record = parsed(read, self._pairs)
        except (ValueError, KeyError, IndexError):
            self.dropped += 1
            return
        self._keep(record)

    def _keep(self, record: Record) -> None:
        if not record.ended:
            self._open[record.stream] = record.hops
            return
        self._open.pop(record.stream, None)
        self.count += 1
        for hop in record.hops:
            if hop.key is None or (hop.served_by == "refused" and len(record.hops) == 1):
                # Whoever sends a key that nobody has lost the one that it was called with.
                self._strays.append((self.count, hop))
            if hop.key is not None:
                self._by_key[hop.key].append((self.count, hop))
                self._order.append(hop.key)
        while len(self._order) > self._keyed_limit:
            self._let_go(self._order.popleft())
        while len(self._strays) > self._stray_limit:
            self._horizon = max(self._horizon, self._strays.popleft()[0])

    def _let_go(self, key: str) -> None:
        kept = self._by_key[key]
        self._horizon = max(self._horizon, kept.popleft()[0])
        if not kept:
            del self._by_key[key]


def parsed(read: Mapping[str, str], pairs: Sequence[tuple[str, str]]) -> Record:
    """The fields of one line as hops; a line that is none raises ValueError, KeyError or IndexError."""
    caller, service = pairs[int(read["pair"])]
    keys, carriers, served = (read["record"] or "||b").split("|")
    path = read["path"]
    trace = read["traceparent"].split("-")

    def hop(key: str | None) -> Hop:
        return Hop(
            at=float(read["started_s"]),
            duration_ms=float(read["took_us"]) / 1000 if read["took_us"] else float(read["took_ms"]),
            caller=caller,
            service=service,
            key=key,
            carriers=tuple(_CARRIERS[name] for name in carriers.split(",") if name in _CARRIERS),
            trace_id=trace[1] if len(trace) == 4 else None,
            served_by=_SERVED[served[0]],
            generation=int(served[1:]) if served[0] == "f" else None,
            upstream=read["upstream"],
            method=read["method"],
            path=redact(path) if "?" in path else path,
            status=int(read["status"] or 0),
            grpc_status=int(read["grpc_status"]) if read["grpc_status"] else None,
            flags=read["flags"],
        )

    return Record(
        hops=tuple(hop(key) for key in keys.split(",")) if keys else (hop(None),),
        stream=(int(read["connection"]), read["started_s"]),
        ended=read["kind"] == _END,
    )
