"""Routing keys that the router knows before anybody has them: a sandbox that takes one is there at once.

A change of the router's table takes longer than all else that creating a sandbox does. Nobody can guess a key in stock;
it leads to the baseline, as that of any sandbox without forks.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from sandbox.keys import RoutingKey, new_key
from sandbox.local.routes import Routes
from sandbox.router.table import KeyRoutes

_IN_STOCK: Final = 4
_FILL_AFTER_S: Final = 1.0
"""Whoever took a key is about to start forks: a change of the table meanwhile would only slow them down."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A key that is live, and the block of ingress ports that adds it."""

    key: RoutingKey
    slot: int


class KeyStock:
    """The keys in stock of one baseline. Close it before the router is."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._ready: list[Place] = []
        self._filling: asyncio.Task[None] | None = None
        self._closed = False

    async def take(self) -> Place:
        """A key of one's own: from the stock, or, where it is empty, made now. SandboxError if it cannot be made."""
        place = self._ready.pop() if self._ready else await self._make()
        self.fill(_FILL_AFTER_S)
        return place

    def fill(self, after_s: float = 0.0) -> None:
        """Make up the stock in the background, unless that is under way, or the stock is closed."""
        if self._filling is None and not self._closed:
            self._filling = asyncio.create_task(self._fill(after_s), name="keys in stock")

    async def aclose(self) -> None:
        self._closed = True
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])

    async def _fill(self, after_s: float) -> None:
        try:
            await asyncio.sleep(after_s)
            # All at once: the router writes changes that come together as one.
            wanted = [self._make() for _ in range(_IN_STOCK - len(self._ready))]
            for made in await asyncio.gather(*wanted, return_exceptions=True):
                if isinstance(made, Place):
                    self._ready.append(made)
                else:
                    _log.warning("no key for the stock could be made: %s", made)
        finally:
            self._filling = None

    async def _make(self) -> Place:
        slot = await self._routes.router.reserve()
        place = Place(new_key(), slot)
        try:
            await self._routes.put(KeyRoutes(name="in stock", key=place.key, slot=slot))
        except BaseException:
            self._routes.router.release(slot)
            raise
        return place
