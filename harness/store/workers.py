"""The workers of a run: the processes that take part in it, and which of them are dead.

One on the same machine whose process is gone is known to be dead at once; of one elsewhere its last sign of life tells,
by the store's clock.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Final

from sqlalchemy import update
from sqlmodel import Session, col, select

from harness.store.tables import AgentRow, WorkerRow
from sandbox.presence import boot, born_at, lives

EMPTY: Final = '{"calls": 0, "tokens": 0, "cost_usd": 0}'
"""What somebody holds of the run's budget who has taken nothing yet; see `harness.store.purse`."""


class Workers:
    """The workers of one run as one of them, `me`, sees them. Each method is a part of the caller's transaction; `now`
    is the time of the clock of leases."""

    def __init__(self, run: str, me: str, lease_s: float) -> None:
        """A worker elsewhere counts as alive for `lease_s` after its last sign of life."""
        self._run, self._me, self._lease_s = run, me, lease_s

    def enter(self, session: Session, now: float, *, leads: bool) -> None:
        """Take part, as this process. Who comes to others holds nothing of the budget yet."""
        pid, holds = os.getpid(), EMPTY if self.others(session, now) else "null"
        row = WorkerRow(
            id=self._me,
            run=self._run,
            host=_host(),
            pid=pid,
            born=born_at(pid) or 0.0,
            leads=leads,
            began_at=now,
            seen_at=now,
            holds=holds,
        )
        session.add(row)

    def seen(self, session: Session, now: float) -> None:
        """Give a sign of life."""
        me = session.get_one(WorkerRow, self._me)
        me.seen_at, me.ended_at = now, None
        session.add(me)

    def leave(self, session: Session, now: float) -> None:
        """Take part no longer; what this worker had is free."""
        self._see_off(session, self._me, now)

    def others(self, session: Session, now: float) -> list[WorkerRow]:
        """Those that live, without this one."""
        return [one for one in self._present(session) if one.id != self._me and self._lives(one, now)]

    def shows(self, worker: WorkerRow, now: float) -> bool:
        """Whether a worker has shown for less than a lease ago that it lives: one on this machine may stand still."""
        return worker.seen_at + self._lease_s > now

    def count(self, session: Session, now: float) -> tuple[int, int]:
        """How many live, this one among them, and how many died without leaving."""
        present = self._present(session)
        alive = sum(self._lives(one, now) for one in present)
        return alive, len(present) - alive

    def bury(self, session: Session, now: float) -> list[WorkerRow]:
        """Free what dead workers had; the others that live."""
        alive = []
        for one in self._present(session):
            if not self._lives(one, now):
                self._see_off(session, one.id, now)
            elif one.id != self._me:
                alive.append(one)
        return alive

    def _present(self, session: Session) -> Sequence[WorkerRow]:
        """All that have not left."""
        query = select(WorkerRow).where(WorkerRow.run == self._run, col(WorkerRow.ended_at).is_(None))
        return session.exec(query).all()

    def _lives(self, worker: WorkerRow, now: float) -> bool:
        if worker.id == self._me:
            return True
        if worker.host == _host():
            return lives(worker.pid, worker.born)
        return self.shows(worker, now)

    def _see_off(self, session: Session, worker: str, now: float) -> None:
        row = session.get(WorkerRow, worker)
        if row is not None:
            row.ended_at = now
            session.add(row)
        # The generation grows too: should it live after all, nothing of what it writes is taken.
        session.exec(
            update(AgentRow)
            .where(col(AgentRow.run) == self._run, col(AgentRow.holder) == worker)
            .values(holder=None, lease_ends=None, generation=AgentRow.generation + 1)
        )


def machine() -> str:
    """The name of this machine, as people know it."""
    return platform.node()


def elsewhere(name: str) -> str:
    """The machine of this name, where it is another one than this; else nothing."""
    return "" if name == machine() else name


@cache
def _host() -> str:
    """This machine since it began, and where process ids are told apart by containers, this one of them."""
    # Two machines may have one name.
    parts = [machine(), *filter(None, [boot()])]
    if sys.platform == "linux":
        with suppress(OSError):
            parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115
    return "/".join(parts)
