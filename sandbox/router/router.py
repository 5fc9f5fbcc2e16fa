"""The router: steers keyed requests into sandboxes, refuses keys that it does not know, and records every hop.

One Envoy process, configured by files. What holds: addresses stay the same for the router's whole life, also when
Envoy had to be restarted; `apply` returns when the worker that serves requests has the table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from sandbox.driver import Cursor, Window
from sandbox.router.clusters import upstream_of
from sandbox.router.control import FAILURES, Control, Sockets
from sandbox.router.envoy import Envoy, ensure_files
from sandbox.router.ingress import Slots
from sandbox.router.listeners import Layout, Paths
from sandbox.router.ports import LOOPBACK, again, fresh
from sandbox.router.reader import Reader
from sandbox.router.routes import Routes, replace
from sandbox.router.table import KeyRoutes
from sandbox.service import System
from tasks.errors import SandboxError

START_TIMEOUT_S: Final = 30.0
CHANGE_TIMEOUT_S: Final = 30.0
_BIND_AGAIN_S: Final = 1.0
_POLL_S: Final = 0.002


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
        self._control = Control()
        self._reader = Reader(self._paths, self._pairs, self._envoy, self._control)
        self._sockets: Sockets | None = None
        self._layout: Layout | None = None
        self._routes: Routes | None = None
        self._table: Sequence[KeyRoutes] = ()
        self._wanted = 0
        self._live = -1
        self._listeners_version = 0
        self._closed = False
        self._changing = asyncio.Lock()
        self._growing = asyncio.Lock()

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
        self._reader.start()

    async def revive(self) -> bool:
        """Restart a dead Envoy on the same ports with the same table; whether it had died. After `aclose` it stays
        dead."""
        async with self._changing, self._growing:
            if self.alive or self._closed:
                return False
            await self._reader.gap()
            with again(chain(self._ports.values(), self._ingress_ports())):
                self._live = await self._run()
            return True

    async def aclose(self) -> None:
        """Kill Envoy and remove its sockets. The folder stays for whoever owns it."""
        self._closed = True
        # Whoever waits for Envoy gives up now; whoever is about to start it has done so when he lets go.
        await self._envoy.stop()
        async with self._changing:
            await self._envoy.stop()
        await self._reader.aclose()
        await self._control.aclose()
        if self._sockets is not None:
            self._sockets.remove()
            self._sockets = None

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
            return await self._control.active(address)
        except FAILURES:
            return 0

    # records

    async def cursor(self) -> Cursor:
        """See Reader."""
        return await self._reader.cursor()

    async def window(self, key: str, since: Cursor) -> Window:
        """See Reader."""
        return await self._reader.window(key, since)

    # files and the process

    def _prepare(self, upstreams: Mapping[str, str]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        self._reader.create()
        self._sockets = Sockets(self._folder)
        self._control.open(self._sockets)
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
                if await self._control.ready() and self._bound <= await self._control.listeners():
                    return
            except FAILURES:
                pass
            await asyncio.sleep(_POLL_S * 5)

    async def _until_live(self, version: str) -> None:
        deadline = time.monotonic() + CHANGE_TIMEOUT_S
        while True:
            try:
                if await self._control.version() == version:
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

    def _ingress_ports(self) -> list[int]:
        return [port for block in self._slots.blocks for slots in block.values() for port in slots.values()]
