"""The walk through a recording: from the conversation so far to the assistant's next message.

Pure, and without memory: every answer is found by walking the whole conversation from its start. So it does not matter
which server plays, how often it was restarted, or that the conversation was broken off and mended in between.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harness.agents.conversation import INTERRUPTED, Block, Message, text_block, text_of, tool_calls
from harness.agents.rehearsal.recording import Recording, Turn

NOTHING_FURTHER: Final = "I have nothing further."

_TICKET_LINE = re.compile(r"Ticket ([A-Za-z0-9._-]+):")


@dataclass(frozen=True, slots=True)
class Answer:
    """The assistant's next message."""

    content: list[Block]
    stop_reason: str


def ticket_of(messages: Sequence[Message]) -> str | None:
    """The ticket that the first user message names in its first line, `Ticket <id>: <title>`."""
    first = text_of(messages[0]).lstrip() if messages else ""
    match = _TICKET_LINE.match(first)
    return match[1] if match else None


def recording_for(ticket: str, recordings: Mapping[str, Recording], copies: Mapping[str, str]) -> Recording | None:
    """The recording of `ticket`, or of the ticket that it is a copy of by `copies` (copy to original)."""
    return recordings.get(ticket) or recordings.get(copies.get(ticket, ticket))


def answer(recording: Recording, messages: Sequence[Message], ticket: str) -> Answer:
    """What the assistant says next. `messages` must be what the API accepts, with a user message at its end."""
    said = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    place: int | None = 0
    for index in said:
        heard = messages[index + 1] if index + 1 < len(messages) else None
        place = _following(recording, place, messages[index], heard)
    if place is None:
        return Answer([text_block(NOTHING_FURTHER)], "end_turn")
    turn = recording.turns[place]
    return Answer(_content(turn, f"{ticket}/{len(said)}"), turn.stop_reason)


def _following(recording: Recording, place: int | None, said: Message, heard: Message | None) -> int | None:
    """The place of the next turn after the one at `place` was answered by `heard`; None: past the last one."""
    if place is None:
        return None
    text = "" if heard is None else text_of(heard)
    if INTERRUPTED in text and tool_calls(said):
        # A model would call the tools again.
        return place
    for branch in recording.turns[place].next:
        if branch.holds(text):
            return recording.place(branch.go)
    return place + 1 if place + 1 < len(recording.turns) else None


def _content(turn: Turn, position: str) -> list[Block]:
    blocks = [text_block(turn.say)] if turn.say.strip() else []
    for number, call in enumerate(turn.use):
        digest = hashlib.sha256(f"{position}/{number}".encode()).hexdigest()[:24]
        blocks.append({"type": "tool_use", "id": f"toolu_{digest}", "name": call.tool, "input": dict(call.input)})
    return blocks
