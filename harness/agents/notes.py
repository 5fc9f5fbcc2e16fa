"""What an agent asks of whoever knows what the user has said to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from graphs.ports import Work
from harness.store.notes import Note


class Notes(Protocol):
    """The notes of the user for agents at work."""

    def waiting(self, work: Work) -> Sequence[Note]:
        """What may not have been told yet, oldest first: the transcript says what was. Cheap enough for every call."""
        ...

    async def told(self, work: Work, notes: Sequence[Note]) -> None:
        """These are in the transcript, on the disk."""
        ...
