"""The notes of a run that wait to be told, in memory: an agent looks here before every call of the model.

They are read from the store when a ticket is taken up, and when the user was heard of, which is looked for twice a
second: no call of the model costs a question to the database. What is taken up may have been told already, to an agent
on another machine: its transcript says what it knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from graphs.ports import Journal, Work
from harness.store.notes import Note, Notes


class Noticeboard:
    """Implements harness.agents.notes.Notes for one worker on one run."""

    def __init__(self, notes: Notes, journal: Journal, run: str) -> None:
        self._notes, self._journal, self._run = notes, journal, run
        self._waiting: dict[str, tuple[Note, ...]] = {}
        self._reading = asyncio.Lock()
        """One at a time: an older answer must not take the place of a newer one."""

    async def read(self) -> None:
        """Take over what waits by now. What was to be told before still is."""
        async with self._reading:
            for ticket, found in (await self._notes.untold(self._run)).items():
                known = self._waiting.get(ticket, ())
                self._waiting[ticket] = (*known, *(note for note in found if note not in known))

    async def take_up(self, ticket: str) -> None:
        """Take over what the agent of the ticket has to know."""
        async with self._reading:
            self._waiting[ticket] = await self._notes.to_know(self._run, ticket)

    def waiting(self, work: Work) -> Sequence[Note]:
        return self._waiting.get(work.ticket.id, ())

    async def told(self, work: Work, notes: Sequence[Note]) -> None:
        fresh = await self._notes.told([note.id for note in notes])
        self._waiting[work.ticket.id] = tuple(note for note in self.waiting(work) if note not in notes)
        for name in fresh:
            self._journal.emit("note.told", work.ticket.id, {"note": name})
