"""The screen's feed over the store: it only reads, holds no lock and no transaction, and acts as `spurline runs` does.

On PostgreSQL an event can become visible after one with a higher number, so each look reads a little of what was read
before, and passes over what is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from harness.project import Project, invocation
from harness.runtime import rows
from harness.runtime.story import mapping, whole_story
from tasks.errors import StoreError, UsageError
from tasks.events import Event
from tui.feed import Agent, Detail, Links, News, Run, Snapshot
from tui.fleet import number

if TYPE_CHECKING:
    from sqlmodel import Session

    from harness.store.database import Database
    from harness.store.tables import RunRow

_PATIENCE_S: Final = 1.0
"""A screen says that the database is gone; it does not wait for it in silence."""
_OVERLAP: Final = 500
"""As many as one writer commits at once."""
_RECENT: Final = 4000

Result = TypeVar("Result")


@asynccontextmanager
async def opened_feed(project: Project, name: str) -> AsyncIterator[StoreFeed]:
    """The feed of the run that `name` means (see `Runs.find`). Raises UsageError, StoreError."""
    # In a thread: what the store needs takes longer to import than a screen may stand still.
    async with await asyncio.to_thread(_opened, project) as database:
        from harness.store.runs import Runs

        row = await Runs(database).find(name)
        yield StoreFeed(project, database, row.id)


def _opened(project: Project) -> Database:
    from harness.runtime.connections import store_place
    from harness.store import claims, runs  # noqa: F401 - what is imported here need not be on the loop
    from harness.store.database import Database

    return Database(store_place(project, "spurline.db"), patience_s=_PATIENCE_S)


class StoreFeed:
    """One run in the store. Implements tui.feed.Feed."""

    def __init__(self, project: Project, database: Database, run: str) -> None:
        self._project, self._database, self.run = project, database, run
        self._last, self._known = 0, frozenset[int]()
        self._revision, self._limits = 0, dict[str, int]()
        self._cli = invocation(project.root)

    async def snapshot(self) -> Snapshot:
        # One transaction: what these events say is in the rows, and what comes after is news.
        row, agents, limits, found = await self._read(self._all)
        self._last, self._known, self._revision = 0, frozenset(), row.revision
        self._limits = limits
        self._note(found)
        return Snapshot(await self._run(row), agents, tuple(event for _, event in found))

    async def news(self) -> News:
        row, found = await self._read(self._since)
        fresh = [one for one in found if one[0] not in self._known]
        self._note(found)
        for _, event in fresh:
            if event.kind == "run.limits":
                self._limits = {**self._limits, **rows.limits(event.data)}
        stale, self._revision = row.revision != self._revision, row.revision
        return News(await self._run(row), tuple(event for _, event in fresh), stale)

    async def services(self) -> Mapping[str, Sequence[str]]:
        backlog = await asyncio.to_thread(self._project.backlog)
        known = {ticket.id: ticket.services for ticket in backlog}
        tickets = await self._database.read(self._tickets)
        # A copy may change what its original may.
        found = {one: known.get(one) or known.get(one.rpartition(".")[0]) for one in tickets}
        return {ticket: services for ticket, services in found.items() if services}

    async def story(self) -> tuple[Event, ...]:
        return await self._read(lambda session: whole_story(session, self.run))

    async def detail(self, ticket: str, page: str) -> Detail:
        from harness.runtime.particulars import particulars

        return await particulars(self._project, self._database, self.run, ticket, page)

    async def links(self, ticket: str) -> Links:
        from harness.runtime.links import links

        return await links(self._project, self._database, self.run, ticket)

    async def pause(self, tickets: Sequence[str]) -> str:
        return await self._wish("paused", tickets, "to be paused")

    async def resume(self, tickets: Sequence[str]) -> str:
        return await self._wish("", tickets, "to go on")

    async def cancel(self, tickets: Sequence[str]) -> str:
        from harness.runtime.abandonment import abandon_run

        _, concerned, where = await abandon_run(self._project, self.run, tuple(tickets))
        return f"{_tickets(concerned)} {'cancelled' if where is None else 'to be cancelled'}"

    async def retry(self, tickets: Sequence[str]) -> str:
        from harness.store.runs import Runs

        again = await Runs(self._database).retry(self.run, tickets)
        return f"{_tickets(len(again))} queued again{await self._left_alone()}"

    async def note(self, tickets: Sequence[str], text: str) -> str:
        from harness.store.notes import Notes

        await Notes(self._database).leave(self.run, tickets, text)
        return f"noted for {_tickets(len(tickets))}{await self._left_alone()}"

    async def answer(self, tickets: Sequence[str], text: str) -> str:
        from harness.store.runs import Runs

        await Runs(self._database).answer(self.run, tickets, text)
        return f"{_tickets(len(tickets))} answered, queued again{await self._left_alone()}"

    async def carry_on(self, tickets: Sequence[str], text: str) -> str:
        from harness.store.runs import Runs

        again = await Runs(self._database).retry(self.run, tickets, carry_on=True, note=text or None)
        return f"{_tickets(len(again))} queued again, to carry on{await self._left_alone()}"

    async def limit(self, limits: Mapping[str, float], tickets: Sequence[str] = ()) -> str:
        from harness.store.runs import Runs

        await Runs(self._database).limit(self.run, limits, tickets)
        whose = f" of {_tickets(len(tickets))}" if tickets else ""
        return ", ".join(f"{name} {most}" for name, most in limits.items()) + whose

    async def keep(self, tickets: Sequence[str], for_s: float) -> str:
        from harness.runtime.keeping import keep_sandboxes

        kept = await keep_sandboxes(self._project, self._database, self.run, tickets, for_s)
        said = [f"kept: {', '.join(kept.now)}"] if kept.now else []
        return "; ".join([*said, *([f"to be kept when they end: {', '.join(kept.later)}"] if kept.later else [])])

    async def _read(self, what: Callable[[Session], Result]) -> Result:
        try:
            return await self._database.read(what)
        except StoreError:
            # What a newer version has moved cannot be found; that says more than what was not found.
            await self._database.read(self._database.known)
            raise

    async def _wish(self, wish: str, tickets: Sequence[str], what: str) -> str:
        from harness.store.runs import Runs

        concerned = await Runs(self._database).wish(self.run, wish, tickets)
        return f"{_tickets(concerned)} {what}{await self._left_alone()}"

    async def _left_alone(self) -> str:
        """What must be said where nobody works on the run."""
        from harness.store.claims import Claims

        others = await Claims(self._database, self.run).others()
        return "" if others else f"; nobody works on the run: `{self._cli} runs resume {self.run}` takes it up"

    async def _run(self, row: RunRow) -> Run:
        from harness.store.claims import Claims

        alive = bool(await Claims(self._database, self.run).others())
        changed = mapping(row.limits)
        said = {**rows.settings(row, "agent"), **rows.settings(row, "limits")}
        return Run(
            id=row.id,
            project=row.project,
            # One whose process was killed could not say that it was interrupted.
            state="interrupted" if row.state == "running" and not alive else row.state,
            began=number(row.started_at),
            ended=number(row.ended_at),
            wish=row.wish,
            worked_on=alive,
            limits={**rows.limits(said), **self._limits, **rows.limits(changed)},
            budgets=rows.budgets({**said, **changed}),
            cli=self._cli,
        )

    def _note(self, found: Sequence[rows.Numbered]) -> None:
        """Know these events; those that lie too far back to come again are forgotten."""
        self._last = max([self._last, *(seq for seq, _ in found)])
        numbers = self._known.union(seq for seq, _ in found)
        self._known = frozenset(seq for seq in numbers if seq > self._last - _OVERLAP)

    def _all(self, session: Session) -> tuple[RunRow, tuple[Agent, ...], dict[str, int], list[rows.Numbered]]:
        from sqlmodel import col, select

        from harness.store.tables import AgentRow, EventRow, VerdictRow

        row = self._row(session)
        # As rows of the session, ten thousand tickets would take it a quarter of a second more.
        columns = [getattr(AgentRow, name) for name in rows.OF_AGENTS]
        query = select(*columns).where(AgentRow.run == self.run).order_by(col(AgentRow.place))
        agents = session.exec(query).all()
        pairs = select(VerdictRow.ticket, VerdictRow.conclusion).where(VerdictRow.run == self.run)
        verdicts = dict(session.exec(pairs.order_by(col(VerdictRow.at))).all())
        said = select(EventRow.data).where(EventRow.run == self.run, EventRow.kind == "run.limits")
        last = session.exec(said.order_by(col(EventRow.seq).desc()).limit(1)).first()
        recent = rows.events(session, self.run, newest=_RECENT)
        begun = tuple(rows.agent(one, verdicts.get(one[0], "")) for one in agents)
        return row, begun, rows.limits(mapping(last)) if last else {}, recent

    def _since(self, session: Session) -> tuple[RunRow, list[rows.Numbered]]:
        return self._row(session), rows.events(session, self.run, after=self._last - _OVERLAP)

    def _tickets(self, session: Session) -> Sequence[str]:
        from sqlmodel import select

        from harness.store.tables import AgentRow

        return session.exec(select(AgentRow.ticket).where(AgentRow.run == self.run)).all()

    def _row(self, session: Session) -> RunRow:
        from harness.store.tables import RunRow

        self._database.there(session)
        row = session.get(RunRow, self.run)
        if row is None:
            raise UsageError(f"run {self.run} is no longer in the store", hint="`spurline runs list` shows what is")
        return row


def _tickets(count: int) -> str:
    return "1 ticket" if count == 1 else f"{count} tickets"
