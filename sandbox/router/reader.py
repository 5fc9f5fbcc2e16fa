"""What Envoy says of the requests that it has served: its records and captures, read while they come.

What holds: a window has every request that ended before it was asked for, or says that it has not; the files are kept
small, also while nobody asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence
from typing import Final

from sandbox.driver import Cursor, Window
from sandbox.router.captures import Captures
from sandbox.router.control import FAILURES, Control
from sandbox.router.envoy import Envoy
from sandbox.router.listeners import Paths
from sandbox.router.records import RecordFile, Records

KEYED_HOPS: Final = 100_000
STRAY_HOPS: Final = 50_000
_BARRIER_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.002
_SWEEP_S: Final = 0.5
_LOSSES: Final = r"^(filesystem\.write_failed|http\.hop\.lua(\..*)?\.errors)$"
"""Envoy's own counters of records that it could not write, and of requests that the normaliser failed on."""


class Reader:
    """Reads from `create` to `aclose`, and by itself after `start`. The calling `pairs` are known by their number."""

    def __init__(self, paths: Paths, pairs: Sequence[tuple[str, str]], envoy: Envoy, control: Control) -> None:
        self._envoy, self._control, self._folder = envoy, control, paths.captures
        self._file = RecordFile(paths.records)
        self._records = Records(self._file, pairs, keyed=KEYED_HOPS, strays=STRAY_HOPS)
        self._captures = Captures(paths.captures, pairs)
        self._losses = 0
        """Of the present Envoy, as far as is known."""
        self._sweeper: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._capturing = asyncio.Lock()

    def create(self) -> None:
        """Make what Envoy writes to."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._file.create()

    def start(self) -> None:
        """Keep file and folder small from now on."""
        self._sweeper = asyncio.create_task(self._keep_small(), name="router's records")

    async def aclose(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None
        self._file.close()

    async def gap(self) -> None:
        """Envoy has died, and another one is about to be started."""
        await self._read()
        self._records.gap()
        # A new Envoy counts from nought; what the old one had lost stays lost.
        self._records.dropped += self._losses
        self._losses = 0

    async def cursor(self) -> Cursor:
        """The place in the stream of records from which a later window counts."""
        # A loss that is not known yet must fall into the window, whoever else's it is.
        dropped = self._records.dropped + self._losses
        with contextlib.suppress(*FAILURES):
            dropped = await self._dropped()
        return Cursor(at=time.time(), offset=self._records.count, dropped=dropped)

    async def window(self, key: str, since: Cursor) -> Window:
        """Every hop and captured exchange with `key` that began after `since`, and every hop without a key, or refused
        for another one that nobody has."""
        certain = await self._barrier()
        await self._read()
        await self._take_captures()
        try:
            dropped = await self._dropped()
        except FAILURES:
            certain, dropped = False, self._records.dropped + self._losses
        dropped += self._records.missed(since.offset) - since.dropped
        captured = self._captures.of(key, since.at)
        return Window(
            since=since.at,
            until=time.time(),
            hops=self._records.of(key, since.offset, since.at),
            strays=self._records.strays(key, since.offset, since.at),
            exchanges=tuple(one for one in captured if one.failed),
            dropped=dropped if certain else max(dropped, 1),
            fine=tuple(one for one in captured if not one.failed),
        )

    async def sweep(self) -> None:
        """Take in what has come, and have a large file replaced: one round."""
        await self._read()
        await self._take_captures()
        if self._file.is_large and self._envoy.alive:
            self._file.move_away()
            with contextlib.suppress(*FAILURES):
                await self._control.reopen_records()

    async def _keep_small(self) -> None:
        """A failing disk taints windows, it ends nothing."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self.sweep()
            except OSError:
                self._records.dropped += 1

    async def _barrier(self) -> bool:
        """Wait until all that ended before is read; False where that cannot be known."""
        mark = secrets.token_hex(8)
        try:
            await self._control.mark(mark)
            deadline = time.monotonic() + _BARRIER_TIMEOUT_S
            while not self._records.has_mark(mark):
                if not self._envoy.alive or time.monotonic() > deadline:
                    return False
                await self._read()
                await asyncio.sleep(_POLL_S)
        except FAILURES:
            return False
        return True

    async def _dropped(self) -> int:
        """Records lost since the start. FAILURES where Envoy does not say."""
        counters = await self._control.counters(_LOSSES)
        self._losses = sum(counters.values())
        return self._records.dropped + self._losses

    async def _read(self) -> None:
        async with self._reading:
            for _ in self._records.read():
                await asyncio.sleep(0)

    async def _take_captures(self) -> None:
        async with self._capturing:
            await asyncio.to_thread(self._captures.sweep)
