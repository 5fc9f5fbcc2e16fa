"""Notes: what the user says to an agent at work. A note is a row before anybody hears of it.

Whether it was told stands in the agent's transcript, which holds its id; the row is marked after that, so that people
can see it. A process killed between the two marks the row when it looks again, and tells nothing twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlmodel import Session, col, or_, select

from harness.store.agents import agents_of
from harness.store.database import Database
from harness.store.tables import AgentRow, EventRow, NoteRow, RunRow
from tasks.errors import UsageError
from tasks.states import is_final
from tasks.text import plain

LONGEST: Final = 20_000
"""Characters of a note: it is read again with every further call of the model."""


@dataclass(frozen=True, slots=True)
class Note:
    """One note, as an agent is to be told it."""

    id: int
    text: str


class Notes:
    """The notes of all runs of one project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def leave(self, run: str, tickets: Sequence[str], text: str) -> None:
        """Leave a note for the agents of these tickets. UsageError where one of them has ended, or is not the run's."""
        words = worded(text)

        def write(session: Session) -> None:
            row = session.get_one(RunRow, run, with_for_update=True)
            agents = agents_of(session, run, tickets)
            for ticket in tickets:
                if is_final(agents[ticket].state):
                    raise _nobody_listens(run, agents[ticket])
            for ticket in dict.fromkeys(tickets):
                put(session, agents[ticket], words)
            row.revision += 1
            session.add(row)

        await self._database.write(write)

    async def of(self, run: str, ticket: str) -> tuple[NoteRow, ...]:
        """All notes on a ticket, oldest first."""
        query = select(NoteRow).where(NoteRow.run == run, NoteRow.ticket == ticket).order_by(col(NoteRow.id))
        return await self._database.read(lambda session: tuple(session.exec(query)))

    async def untold(self, run: str) -> Mapping[str, tuple[Note, ...]]:
        """What is not known to be told, by ticket, oldest first."""
        query = select(NoteRow).where(NoteRow.run == run, col(NoteRow.told_at).is_(None)).order_by(col(NoteRow.id))
        found: dict[str, tuple[Note, ...]] = {}
        for row in await self._database.read(lambda session: tuple(session.exec(query))):
            found[row.ticket] = (*found.get(row.ticket, ()), _note(row))
        return found

    async def to_know(self, run: str, ticket: str) -> tuple[Note, ...]:
        """What whoever takes the ticket up has to know, oldest first: what is not known to be told, and all that was
        told in this attempt, whose transcript may lie on another machine."""
        attempt = select(AgentRow.attempt).where(AgentRow.run == run, AgentRow.ticket == ticket).scalar_subquery()
        wanted = or_(col(NoteRow.told_at).is_(None), col(NoteRow.attempt) == attempt)
        query = select(NoteRow).where(NoteRow.run == run, NoteRow.ticket == ticket, wanted).order_by(col(NoteRow.id))
        return await self._database.read(lambda session: tuple(map(_note, session.exec(query))))

    async def told(self, notes: Sequence[int]) -> tuple[int, ...]:
        """Note that these were told; which of them that was not known of."""
        unknown = select(NoteRow).where(col(NoteRow.id).in_(notes), col(NoteRow.told_at).is_(None))

        def write(session: Session) -> tuple[int, ...]:
            rows = session.exec(unknown.order_by(col(NoteRow.id)).with_for_update()).all()
            for row in rows:
                row.told_at = time.time()
                session.add(row)
            return tuple(row.id for row in rows if row.id is not None)

        return await self._database.write(write)


def put(session: Session, agent: AgentRow, text: str) -> None:
    """Leave a note for the agent, in a writer's transaction; `text` as `worded` gives it."""
    now = time.time()
    row = NoteRow(run=agent.run, ticket=agent.ticket, attempt=agent.attempt, at=now, text=text)
    session.add(row)
    session.flush()
    data = json.dumps({"note": row.id})
    session.add(EventRow(run=agent.run, ticket=agent.ticket, kind="note.left", at=now, data=data))


def worded(text: str) -> str:
    """The text of a note, as it is kept. UsageError where there is none, or too much."""
    words = plain(text).strip()
    if not words:
        raise UsageError("the note says nothing", hint="write its text behind the options, or `-` to read stdin")
    if len(words) > LONGEST:
        raise UsageError(
            f"the note has {len(words):,} characters, more than {LONGEST:,}",
            hint="an agent reads it again with every call: say where in the repository the rest stands",
        )
    return words


def _note(row: NoteRow) -> Note:
    assert row.id is not None
    return Note(row.id, row.text)


def _nobody_listens(run: str, agent: AgentRow) -> UsageError:
    hints = {
        "needs_human": f"`spurline runs answer {run} -t {agent.ticket} TEXT` goes on with the answer",
        "verified": "there is nothing left to do on it",
    }
    carry_on = f"`spurline runs retry {run} -t {agent.ticket} --carry-on --note TEXT` goes on with it"
    return UsageError(
        f"{agent.ticket!r} is {agent.state}: its agent hears no note any more", hint=hints.get(agent.state, carry_on)
    )
