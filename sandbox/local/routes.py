"""The router as the driver uses it: one table of all sandboxes, changed one entry at a time, and kept alive.

`put` and `drop` return when the change is live. Every death of the router is remembered with its time, because what it
had not written down by then is lost: windows over such a moment must not say that nothing was dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sandbox.driver import Cursor, Window
from sandbox.keys import RoutingKey
from sandbox.local.guard import Guard
from sandbox.router import Router
from sandbox.router.table import KeyRoutes
from tasks.errors import SandboxError

_DRAIN_POLL_S: Final = 0.05


class Routes:
    """One router with its table, from `start` to `aclose`; its process is under the driver's guard."""

    def __init__(self, router: Router, guard: Guard) -> None:
        self.router = router
        self._guard = guard
        self._guarded: int | None = None
        self._table: dict[RoutingKey, KeyRoutes] = {}
        self._deaths: list[float] = []
        self._reviving = asyncio.Lock()

    async def start(self, upstreams: Mapping[str, str]) -> None:
        """Start the router; `upstreams` has `ip:port` of every service of the baseline."""
        await self.router.start(upstreams)
        self._watch_over(self.router.pid)
        if self.router.outside is not None:
            self._guard.add_path(self.router.outside)

    async def aclose(self) -> None:
        await self.router.aclose()
        self._watch_over(None)

    async def put(self, routes: KeyRoutes) -> None:
        """Set the routes of one sandbox, all at once. On failure the table is as before."""
        before = self._table.get(routes.key)
        self._table[routes.key] = routes
        try:
            await self._apply()
        except BaseException:
            if before is None:
                self._table.pop(routes.key, None)
            else:
                self._table[routes.key] = before
            raise

    async def drop(self, key: RoutingKey) -> None:
        """Take the routes of one sandbox away: its key is refused from now on."""
        if self._table.pop(key, None) is not None:
            await self._apply()

    async def drained(self, address: str, *, grace_s: float) -> None:
        """Wait until no request is under way to `address`, the grace at most. Its routes must have moved already.

        Twice in a row, since a request that was just routed may not be counted yet.
        """
        deadline, quiet = time.monotonic() + grace_s, 0
        while quiet < 2 and time.monotonic() < deadline:
            await asyncio.sleep(_DRAIN_POLL_S)
            quiet = 0 if self.router.alive and await self.router.in_flight(address) else quiet + 1

    async def revive(self) -> bool:
        """Restart a dead router with the same ports and table; whether it had died. A router that somebody else is
        restarting is waited for."""
        if self.router.alive and not self._reviving.locked():
            return False
        async with self._reviving:
            died_at = time.time()
            if not await self.router.revive():
                return False
            self._deaths.append(died_at)
            self._watch_over(self.router.pid)
            await self.router.apply(tuple(self._table.values()))
        return True

    async def cursor(self) -> Cursor:
        await self.revive()
        return await self.router.cursor()

    async def window(self, key: str, since: Cursor) -> Window:
        """The router's window, with its own deaths since the cursor among what was dropped."""
        await self.revive()
        window = await self.router.window(key, since)
        deaths = sum(died_at >= since.at for died_at in self._deaths)
        return replace(window, dropped=window.dropped + deaths)

    async def _apply(self) -> None:
        deaths = len(self._deaths)
        try:
            await self.router.apply(tuple(self._table.values()))
        except SandboxError:
            await self.revive()
            if len(self._deaths) == deaths:
                raise
            await self.router.apply(tuple(self._table.values()))

    def _watch_over(self, pid: int | None) -> None:
        if self._guarded is not None:
            self._guard.remove(self._guarded)
        if pid is not None:
            self._guard.add(pid)
        self._guarded = pid
