"""The notes of a run that wait to be told, in memory: an agent looks here before every call of the model.

They are read from the store when a ticket is taken up, and when the user was heard of, which is looked for twice a
second: no call of the model costs a question to the database.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphs.ports import Journal, Work
from harness.store.notes import Note, Notes


class Noticeboard:
    """Implements harness.agents.notes.Notes for one worker on one run."""

    def __init__(self, notes: Notes, journal: Journal, run: str) -> None:
        self._notes, self._journal, self._run = notes, journal, run
        self._waiting: dict[str, tuple[Note, ...]] = {}

    async def read(self, ticket: str | None = None) -> None:
        """Take over what waits by now, for one ticket or for all."""
        found = await self._notes.untold(self._run, ticket)
        self._waiting = dict(found) if ticket is None else {**self._waiting, ticket: found.get(ticket, ())}

    def waiting(self, work: Work) -> Sequence[Note]:
        return self._waiting.get(work.ticket.id, ())

    async def told(self, work: Work, notes: Sequence[Note]) -> None:
        fresh = await self._notes.told([note.id for note in notes])
        self._waiting[work.ticket.id] = tuple(note for note in self.waiting(work) if note not in notes)
        for name in fresh:
            self._journal.emit("note.told", work.ticket.id, {"note": name})
