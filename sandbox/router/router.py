"""The router: steers keyed requests into sandboxes, refuses keys that it does not know, and records every hop.

One Envoy process, configured by files. What holds: addresses stay the same for the router's whole life, also when
Envoy had to be restarted; `apply` returns when the worker that serves requests has the table; a window holds every
request that ended before it was asked for, or says that it does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from sandbox.driver import Cursor, Window
from sandbox.router.captures import Captures
from sandbox.router.clusters import upstream_of
from sandbox.router.control import FAILURES, Control, Sockets
from sandbox.router.envoy import Envoy, ensure_files
from sandbox.router.ingress import Slots
from sandbox.router.listeners import Layout, Paths
from sandbox.router.ports import LOOPBACK, again, fresh
from sandbox.router.records import RecordFile, Records
from sandbox.router.routes import Routes, replace
from sandbox.router.table import KeyRoutes
from sandbox.service import System
from tasks.errors import SandboxError

START_TIMEOUT_S: Final = 30.0
CHANGE_TIMEOUT_S: Final = 30.0
_BIND_AGAIN_S: Final = 1.0
KEYED_HOPS: Final = 100_000
STRAY_HOPS: Final = 50_000
_POLL_S: Final = 0.002
_SWEEP_S: Final = 0.5
_LOSSES: Final = r"^(filesystem\.write_failed|http\.hop\.lua(\..*)?\.errors)$"
"""Envoy's own counters of records that it could not write, and of requests that the normaliser failed on."""


class Router:
    """See the module's text. `folder` is the router's own; everything that it writes lies in it."""

    def __init__(self, folder: Path, system: System) -> None:
        self._folder = folder
        self._system = system
        self._paths = Paths.below(folder)
        self._slots = Slots(tuple(system.services))
        self._pairs = tuple(system.pairs())
        self._ports: dict[tuple[str, str], int] = {}
        self._plain: dict[int, str] = {}
        self._bound: frozenset[str] = frozenset()
        self._envoy = Envoy(self._paths.bootstrap, self._paths.log)
        self._file = RecordFile(self._paths.records)
        self._records = Records(self._file, self._pairs, keyed=KEYED_HOPS, strays=STRAY_HOPS)
        self._captures = Captures(self._paths.captures, self._pairs)
        self._sockets: Sockets | None = None
        self._control: Control | None = None
        self._layout: Layout | None = None
        self._routes: Routes | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._table: Sequence[KeyRoutes] = ()
        self._wanted = 0
        self._live = -1
        self._listeners_version = 0
        self._losses = 0
        self._closed = False
        self._changing = asyncio.Lock()
        self._growing = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._capturing = asyncio.Lock()

    # life

    async def start(self, upstreams: Mapping[str, str]) -> None:
        """Start Envoy with a listener for every calling pair.

        `upstreams` maps each service to the `ip:port` of its baseline process, which need not run yet. Raises
        SandboxError with Envoy's last lines where it does not come up.
        """
        try:
            ensure_files(len(self._pairs) + self._slots.ports_needed)
            self._prepare(upstreams)
            with fresh(len(self._pairs) + self._slots.ports_needed) as ports:
                self._ports = dict(zip(self._pairs, ports, strict=False))
                self._plain |= {port: service for (_, service), port in self._ports.items()}
                self._slots.add(self._slots.block(ports[len(self._pairs) :]))
                self._write_listeners()
                self._live = await self._run()
                self._slots.open()
        except BaseException:
            await self.aclose()
            raise
        self._sweeper = asyncio.create_task(self._sweep(), name="router's records")

    async def revive(self) -> bool:
        """Restart a dead Envoy on the same ports with the same table; whether it had died. After `aclose` it stays
        dead."""
        async with self._changing, self._growing:
            if self.alive or self._closed:
                return False
            await self._read()
            self._records.gap()
            # A new Envoy counts from nought; what the old one had lost stays lost.
            self._records.dropped += self._losses
            self._losses = 0
            with again(chain(self._ports.values(), self._ingress_ports())):
                self._live = await self._run()
            return True

    async def aclose(self) -> None:
        """Kill Envoy and remove its sockets. The folder stays for whoever owns it."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None
        # Whoever waits for Envoy gives up now; whoever is about to start it has done so when he lets go.
        await self._envoy.stop()
        async with self._changing:
            await self._envoy.stop()
        if self._control is not None:
            await self._control.aclose()
            self._control = None
        if self._sockets is not None:
            self._sockets.remove()
            self._sockets = None
        self._file.close()

    @property
    def alive(self) -> bool:
        return self._envoy.alive

    @property
    def pid(self) -> int:
        """Envoy's process id and process group; 0 before the start."""
        return self._envoy.pid

    @property
    def outside(self) -> Path | None:
        """A private folder beside its own for its sockets, where the paths in its own would be too long; it goes
        with `aclose`."""
        return self._sockets.own if self._sockets is not None else None

    # addresses

    def address(self, caller: str, service: str) -> tuple[str, int]:
        """Host and port by which `caller` reaches `service`; the outside is `sandbox.service.CLIENT`."""
        try:
            return LOOPBACK, self._ports[caller, service]
        except KeyError:
            raise SandboxError(
                f"{caller!r} does not call {service!r}", hint="name the neighbour in its command or env"
            ) from None

    async def reserve(self) -> int:
        """A free slot of the keyed ingress; the pool grows where none is left."""
        async with self._growing:
            if not self._slots.has_free:
                await self._grow()
            return self._slots.take()

    def release(self, slot: int) -> None:
        """Give a slot back; take its key out of the table first."""
        self._slots.release(slot)

    def ingress(self, slot: int, service: str) -> str:
        """The URL of a service in a slot: plain HTTP, the router adds the key."""
        return f"http://{LOOPBACK}:{self._slots.port(slot, service)}"

    # the table

    async def apply(self, table: Sequence[KeyRoutes]) -> None:
        """Make `table` the whole table; returns when requests are served by it, or by a later one.

        Calls that come while a change is under way are written together: the last table wins.
        """
        self._table = tuple(table)
        self._wanted += 1
        mine = self._wanted
        async with self._changing:
            if self._live >= mine:
                return
            written = self._wanted
            self._write_table()
            await self._until_live(str(written))
            self._live = written

    async def in_flight(self, address: str) -> int:
        """Requests under way to an upstream, `ip:port`; 0 where Envoy does not answer, since then none is."""
        try:
            return await self._talk().active(address)
        except FAILURES:
            return 0

    # records

    async def cursor(self) -> Cursor:
        """The place in the stream of records from which a later window counts."""
        # A loss that is not known yet must fall into the window, whoever else's it is.
        dropped = self._records.dropped + self._losses
        with contextlib.suppress(*FAILURES):
            dropped = await self._dropped()
        return Cursor(at=time.time(), offset=self._records.count, dropped=dropped)

    async def window(self, key: str, since: Cursor) -> Window:
        """Every hop and captured exchange with `key` that began after `since`, and every hop without a key."""
        certain = await self._barrier()
        await self._read()
        await self._sweep_captures()
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
            strays=self._records.strays(since.offset, since.at),
            exchanges=tuple(one for one in captured if one.failed),
            dropped=dropped if certain else max(dropped, 1),
            fine=tuple(one for one in captured if not one.failed),
        )

    async def _barrier(self) -> bool:
        """Wait until all that ended before is read; False where that cannot be known."""
        mark = secrets.token_hex(8)
        try:
            await self._talk().mark(mark)
            deadline = time.monotonic() + CHANGE_TIMEOUT_S
            while not self._records.has_mark(mark):
                if not self.alive or time.monotonic() > deadline:
                    return False
                await self._read()
                await asyncio.sleep(_POLL_S)
        except FAILURES:
            return False
        return True

    async def _dropped(self) -> int:
        """Records lost since the start. FAILURES where Envoy does not say."""
        counters = await self._talk().counters(_LOSSES)
        self._losses = sum(counters.values())
        return self._records.dropped + self._losses

    async def _read(self) -> None:
        async with self._reading:
            for _ in self._records.read():
                await asyncio.sleep(0)

    async def _sweep(self) -> None:
        """Keep file and folder small, also while nobody asks. A failing disk taints windows, it ends nothing."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self._sweep_once()
            except OSError:
                self._records.dropped += 1

    async def _sweep_once(self) -> None:
        await self._read()
        await self._sweep_captures()
        if self._file.is_large and self.alive:
            self._file.move_away()
            try:
                await self._talk().reopen_records()
            except FAILURES:
                return

    async def _sweep_captures(self) -> None:
        async with self._capturing:
            await asyncio.to_thread(self._captures.sweep)

    # files and the process

    def _prepare(self, upstreams: Mapping[str, str]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        self._paths.captures.mkdir(mode=0o700, exist_ok=True)
        self._file.create()
        self._sockets = Sockets(self._folder)
        self._control = Control(self._sockets)
        where = {name: upstream_of(service, upstreams) for name, service in self._system.services.items()}
        self._plain = {upstream.port: name for name, upstream in where.items() if upstream.is_loopback}
        self._layout = Layout(self._system, where, self._paths, self._sockets)
        self._routes = self._layout.routes
        replace(self._paths.bootstrap, self._layout.bootstrap())

    async def _run(self) -> int:
        """Start Envoy on the table and wait until all listeners are bound and the worker has it; its version, which a
        table that somebody wants meanwhile has not."""
        assert self._sockets is not None
        written = self._wanted
        self._write_table()
        self._sockets.clear()
        await self._envoy.start()
        await self._until_bound(START_TIMEOUT_S)
        await self._until_live(str(written))
        return written

    async def _grow(self) -> None:
        ensure_files(len(self._pairs) + len(self._ingress_ports()) + self._slots.ports_needed)
        with fresh(self._slots.ports_needed) as ports:
            self._slots.add(self._slots.block(ports))
            self._write_listeners()
            await self._until_bound(CHANGE_TIMEOUT_S)
            self._slots.open()

    def _write_listeners(self) -> None:
        assert self._layout is not None
        self._listeners_version += 1
        listeners = [self._layout.pair(number, self._ports[pair]) for number, pair in enumerate(self._pairs)]
        for number, block in enumerate(self._slots.blocks):
            listeners += self._layout.ingress(number, block, self._plain)
        self._bound = frozenset(listener["name"] for listener in listeners)
        replace(self._paths.listeners, self._layout.file(listeners, self._listeners_version))

    def _write_table(self) -> None:
        assert self._routes is not None
        replace(self._paths.routes, self._routes.file(self._table, str(self._wanted), self._slots.ports))

    async def _until_bound(self, timeout_s: float) -> None:
        deadline, again_at = time.monotonic() + timeout_s, time.monotonic() + _BIND_AGAIN_S
        while True:
            self._check(deadline, "did not bind its listeners")
            if time.monotonic() > again_at:
                # Who had a port for a moment may have let it go; Envoy itself does not try again.
                self._write_listeners()
                again_at = time.monotonic() + _BIND_AGAIN_S
            try:
                if await self._talk().ready() and self._bound <= await self._talk().listeners():
                    return
            except FAILURES:
                pass
            await asyncio.sleep(_POLL_S * 5)

    async def _until_live(self, version: str) -> None:
        deadline = time.monotonic() + CHANGE_TIMEOUT_S
        while True:
            try:
                if await self._talk().version() == version:
                    return
            except FAILURES:
                pass
            self._check(deadline, "did not take the table of keys")
            await asyncio.sleep(_POLL_S)

    def _check(self, deadline: float, complaint: str) -> None:
        if self.alive and not self._closed and time.monotonic() < deadline:
            return
        ended = complaint if self.alive else "ended"
        lines = "\n".join(self._envoy.tail())
        raise SandboxError(
            f"the router's Envoy {ended}" + (f"; it says:\n{lines}" if lines else ""),
            hint=f"its log is {str(self._paths.log)!r}",
        )

    def _talk(self) -> Control:
        if self._control is None:
            raise SandboxError("the router does not run", hint="start it first")
        return self._control

    def _ingress_ports(self) -> list[int]:
        return [port for block in self._slots.blocks for slots in block.values() for port in slots.values()]
