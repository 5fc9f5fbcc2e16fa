"""Recordings out of transcripts: what an agent did on a ticket, to be played again.

A transcript shows one way only, so the recording is a straight line. Whoever wants it to branch adds `next` by hand.
Nothing of the run is in it: where its worktree lay is written so that it is found wherever the recording is played.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any, Final, get_args

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from harness.agents.rehearsal.recording import RareStop, Recording, ToolCall, Turn, recording_in
from harness.agents.transcript import Entry
from tasks.errors import ConfigError

NOTHING: Final = "(nothing)"
"""What a turn says in which the model said nothing: it ended there nevertheless."""


def recording_of(ticket: str, entries: Iterable[Entry], *, root: Path, worktree: Path) -> Recording:
    """The turns of the agent, in order. `root` is the repository, and `worktree` below it what the agent worked in.

    Raises ValueError where the agent has said nothing yet."""
    places = (str(worktree), str(root))
    turns = [_turn(entry, places) for entry in entries if entry.origin == "agent"]
    if not turns:
        raise ValueError("the agent has said nothing yet")
    return Recording(ticket=ticket, turns=tuple(turns))


def written(recording: Recording, path: Path) -> str:
    """The recording as `recording.read_recording` reads it from `path`.

    Raises ConfigError where it could not be played from there: YAML has no NUL, and a file has its limit."""
    yaml = YAML()
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = StringIO()
    yaml.dump(_laid_out(recording.model_dump(mode="json", exclude_defaults=True)), stream)
    text = stream.getvalue()
    if recording_in(text, path) != recording:
        raise ConfigError("the recording would not be read as it was written", path=path)
    return text


def _turn(entry: Entry, places: tuple[str, ...]) -> Turn:
    said = "\n".join(block["text"] for block in entry.content if block["type"] == "text")
    calls = tuple(
        ToolCall(tool=block["name"], input=_portable(block["name"], block["input"], places))
        for block in entry.content
        if block["type"] == "tool_use"
    )
    stop = next((stop for stop in get_args(RareStop) if stop == entry.stop_reason), None)
    return Turn(say=_moved(said, places, ".") if said.strip() or calls else NOTHING, use=calls, stop=stop)


def _portable(tool: str, given: dict[str, Any], places: tuple[str, ...]) -> dict[str, Any]:
    """The input of a call without the place where its worktree lay."""
    command = given.get("command")
    if tool == "bash" and isinstance(command, str) and places[0] in command:
        # A command may change its folder before it names the worktree again; each one starts in it.
        given = {**given, "command": "worktree=$PWD; " + _moved(command, places[:1], "$worktree")}
    moved: dict[str, Any] = _moved(given, places, ".")
    return moved


def _moved(value: Any, places: tuple[str, ...], there: str) -> Any:
    if isinstance(value, dict):
        return {key: _moved(inner, places, there) for key, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, places, there) for inner in value]
    if isinstance(value, str):
        for place in places:
            value = value.replace(place, there)
    return value


def _laid_out(value: Any) -> Any:
    """Text of several lines as people write it, wherever YAML has it come back the same."""
    if isinstance(value, dict):
        return {key: _laid_out(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_laid_out(inner) for inner in value]
    if isinstance(value, str) and "\n" in value and _plain_lines(value):
        return LiteralScalarString(value)
    return value


def _plain_lines(text: str) -> bool:
    """Whether a literal block keeps `text`: no control characters, none of the rarer line ends, no empty edges."""
    return text.strip("\n") != "" and all(line.isprintable() and line == line.rstrip() for line in text.split("\n"))
