"""The effects journal: an outside effect is noted before it is tried, and looked up before it is tried again."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from sqlmodel import Session, select

from harness.store.claims import Claims
from harness.store.database import Database
from harness.store.tables import EffectRow
from harness.store.upsert import replace


class StoreEffects:
    """Intent, effect, observed; keyed by what is done to what. With `claims`, for tickets that this worker has."""

    def __init__(self, database: Database, claims: Claims | None = None) -> None:
        self._database, self._claims = database, claims

    async def once(
        self,
        kind: str,
        target: str,
        ticket: str,
        act: Callable[[], Awaitable[str]],
        look: Callable[[], Awaitable[str | None]],
    ) -> str:
        """Do `act` for `ticket` unless it was done. Its result, or what `look` found of an earlier, unknown attempt.

        LeaseLost before the effect where the ticket is another worker's by now."""
        before = await self._database.read(lambda session: _find(session, kind, target))
        if before is not None and before.state == "observed":
            return before.result
        # An intent that was noted before is noted again: what follows is done by who has the ticket now.
        await self._note(kind, target, ticket, "intent", "")
        found = await look() if before is not None else None
        result = await act() if found is None else found
        await self._note(kind, target, ticket, "observed", result)
        return result

    async def _note(self, kind: str, target: str, ticket: str, state: str, result: str) -> None:
        def write(session: Session) -> None:
            if self._claims is not None:
                self._claims.fence(session, ticket)
            row = EffectRow(kind=kind, target=target, state=state, result=result, at=time.time())
            replace(session, row, "kind", "target")

        await self._database.write(write)


def _find(session: Session, kind: str, target: str) -> EffectRow | None:
    return session.exec(select(EffectRow).where(EffectRow.kind == kind, EffectRow.target == target)).first()
