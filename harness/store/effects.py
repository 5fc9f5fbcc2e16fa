"""The effects journal: an outside effect is noted before it is tried, and looked up before it is tried again."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from sqlmodel import Session, select

from harness.store.database import Database
from harness.store.tables import EffectRow


class StoreEffects:
    """Intent, effect, observed; keyed by what is done to what."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def once(
        self,
        kind: str,
        target: str,
        act: Callable[[], Awaitable[str]],
        look: Callable[[], Awaitable[str | None]],
    ) -> str:
        """Do `act` unless it was done. Its result, or what `look` found of an earlier, unknown attempt."""
        before = await self._database.read(lambda session: _find(session, kind, target))
        if before is not None and before.state == "observed":
            return before.result
        if before is None:
            await self._database.write(lambda session: _note(session, kind, target, "intent", ""))
            result = await act()
        else:
            found = await look()
            result = await act() if found is None else found
        await self._database.write(lambda session: _note(session, kind, target, "observed", result))
        return result


def _find(session: Session, kind: str, target: str) -> EffectRow | None:
    return session.exec(select(EffectRow).where(EffectRow.kind == kind, EffectRow.target == target)).first()


def _note(session: Session, kind: str, target: str, state: str, result: str) -> None:
    row = _find(session, kind, target) or EffectRow(kind=kind, target=target, state=state, at=time.time())
    row.state, row.result, row.at = state, result, time.time()
    session.add(row)
