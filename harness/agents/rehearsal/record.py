"""Recordings out of transcripts: what an agent did on a ticket, to be played again.

A transcript shows one way only, so the recording is a straight line. Whoever wants it to branch adds `next` by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML

from harness.agents.rehearsal.recording import Recording, ToolCall, Turn
from harness.agents.transcript import Entry


def recording_of(ticket: str, entries: Iterable[Entry]) -> Recording:
    """The turns of the agent, in order. Raises ValueError where the agent has said nothing yet."""
    turns = [turn for entry in entries if entry.origin == "agent" if (turn := _turn(entry)) is not None]
    if not turns:
        raise ValueError("the agent has said nothing yet")
    return Recording(ticket=ticket, turns=tuple(turns))


def write_recording(recording: Recording, path: Path) -> None:
    """Write the recording as `recording.read_recording` reads it; an existing file is replaced."""
    yaml = YAML()
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(recording.model_dump(mode="json", exclude_defaults=True), file)


def _turn(entry: Entry) -> Turn | None:
    said = "\n".join(block["text"] for block in entry.content if block["type"] == "text")
    calls = [
        ToolCall(tool=block["name"], input=block["input"]) for block in entry.content if block["type"] == "tool_use"
    ]
    return Turn(say=said, use=tuple(calls)) if said.strip() or calls else None
