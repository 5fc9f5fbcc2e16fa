"""How a run stands: what the user wants of it and where its tickets are, read from the store and told on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from harness.engine.clock import TicketClock
from harness.engine.limits import Limits
from harness.engine.ticket_work import Standings
from harness.store.claims import Claims, Wishes

_SHARE_S: Final = 5.0


class Overview:
    """Keeps `standings` and `limits` as the store has them; asked anew before each decision of the supervisor."""

    def __init__(
        self,
        *,
        claims: Claims,
        standings: Standings,
        limits: Limits,
        clocks: Mapping[str, TicketClock],
        wished: Callable[[], Awaitable[None]],
        share: Callable[[], Awaitable[None]],
        short: Callable[[], bool],
    ) -> None:
        """See Supervisor; `clocks` of the tickets at work."""
        self._claims, self._standings, self._limits, self._clocks = claims, standings, limits, clocks
        self._wished, self._share, self._short = wished, share, short
        self._revision, self._shared, self._shared_at = 0, False, 0.0
        self._sharing = asyncio.Lock()
        self.wish = ""
        """What is wanted of the whole run: nothing, `paused` or `cancelled`."""

    async def refresh(self) -> None:
        """Read what the user wants; and where tickets stand, when somebody else may have moved them."""
        wishes = await self._claims.wishes()
        if wishes.dead:
            await self._claims.bury()
        shared, self._shared = self._shared, wishes.workers > 1
        if wishes.revision != self._revision:
            await self._wished()
        if self._standings.stale or wishes.revision != self._revision or self._shared or shared or wishes.dead:
            self._standings.stale = False
            before = dict(self._standings)
            for one in await self._claims.standings():
                # What moved here while it was read is known better here, but for what is wished of it: next time.
                if self._standings.get(one.ticket) is before.get(one.ticket):
                    self._standings[one.ticket] = one
                else:
                    self._standings.stale = True
            self._change_limits(wishes)
        news = wishes.revision != self._revision or self._shared != shared
        if news or self._short() or (self._shared and time.monotonic() - self._shared_at >= _SHARE_S):
            await self.share()
        self.wish, self._revision = wishes.wish, wishes.revision

    async def share(self) -> None:
        """Ask anew what this worker may use of what is shared; one at a time, since each says what is used by then."""
        self._shared_at = time.monotonic()
        async with self._sharing:
            await self._share()

    def _change_limits(self, wishes: Wishes) -> None:
        single = {name: json.loads(one.limits) for name, one in self._standings.items() if one.limits != "{}"}
        self._limits.change(json.loads(wishes.limits), wishes.workers, single)
        for ticket, clock in self._clocks.items():
            clock.allow(self._limits.ticket_s(ticket))
