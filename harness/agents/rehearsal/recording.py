"""Recordings: what the agent of a rehearsal says, a turn at a time, branching on what its tools really returned.

    ticket: users-v2
    turns:
      - id: look                       # wanted where somebody goes to it
        say: I look at the handler first.
        use:
          - {tool: read, input: {file_path: services/users/app.py}}
        next:                          # looks at the text of the next user message; the first that holds
          - {contains: def get_user, go: change}
          - {matches: "v[12]/users", go: other}
          - {go: stuck}

Without `next`, or when none of it holds, the following turn comes next. A turn without `use` ends the agent's turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tasks.errors import ConfigError
from tasks.ticket import Frozen, SafeId
from tasks.yamlfile import parse, read_text, validate

RareStop = Literal["max_tokens", "refusal", "pause_turn", "model_context_window_exceeded"]


def _regular(expression: str) -> str:
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from None
    return expression


class ToolCall(Frozen):
    """One tool call, exactly as a model would make it."""

    tool: str = Field(min_length=1)
    input: dict[str, Any] = Field(default_factory=dict)


class Branch(Frozen):
    """Where to go on, and on what condition; without one: otherwise."""

    contains: str | None = None
    matches: Annotated[str, AfterValidator(_regular)] | None = None
    go: str

    def holds(self, text: str) -> bool:
        """Whether `text` meets all conditions that are given."""
        if self.contains is not None and self.contains not in text:
            return False
        return self.matches is None or re.search(self.matches, text) is not None


class Turn(Frozen):
    """One message of the assistant."""

    id: str | None = None
    say: str = ""
    use: tuple[ToolCall, ...] = ()
    next: tuple[Branch, ...] = ()
    stop: RareStop | None = None
    """How the turn stops, where it is to stop in a rare manner."""

    @property
    def stop_reason(self) -> str:
        return self.stop or ("tool_use" if self.use else "end_turn")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.say.strip() and not self.use:
            raise ValueError("a turn needs 'say' or 'use'")
        return self


class Recording(Frozen):
    """All turns of one ticket, walked from the top."""

    ticket: SafeId
    turns: tuple[Turn, ...] = Field(min_length=1)

    def place(self, turn_id: str) -> int:
        """The index of the turn with this id. Raises KeyError."""
        for index, turn in enumerate(self.turns):
            if turn.id == turn_id:
                return index
        raise KeyError(turn_id)

    def unknown_goal(self) -> tuple[int, int, str] | None:
        """The first `go` that names no turn, as (turn, branch, name)."""
        ids = {turn.id for turn in self.turns}
        for index, turn in enumerate(self.turns):
            for number, branch in enumerate(turn.next):
                if branch.go not in ids:
                    return index, number, branch.go
        return None


def read_recording(path: Path) -> Recording:
    """The recording in the file. ConfigError names file, line and key of the first thing that is wrong with it."""
    return recording_in(read_text(path), path)


def recording_in(text: str, path: Path) -> Recording:
    """The recording in `text`, which is or would be that of the file."""
    data = parse(text, path)
    recording = validate(data, Recording, path)
    ids = [turn.id for turn in recording.turns if turn.id is not None]
    for index, turn in enumerate(recording.turns):
        if turn.id is not None and recording.place(turn.id) != index:
            line = data["turns"].lc.item(index)[0] + 1
            raise ConfigError(f"two turns have the id {turn.id!r}", path=path, line=line, key=f"turns.{index}.id")
    if (unknown := recording.unknown_goal()) is not None:
        index, number, name = unknown
        line = data["turns"][index]["next"].lc.item(number)[0] + 1
        key = f"turns.{index}.next.{number}.go"
        raise ConfigError(f"no turn has the id {name!r}", path=path, line=line, key=key, hint=f"ids: {', '.join(ids)}")
    return recording


def read_recordings(folder: Path) -> Mapping[str, Recording]:
    """All recordings of a folder, by ticket. ConfigError for the first that cannot be used, or when there is none."""
    paths = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    if not paths:
        raise ConfigError("there are no recordings (*.yaml) here", path=folder, hint="set agent.recordings")
    return _by_ticket((path, read_recording(path)) for path in paths)


def _by_ticket(found: Iterable[tuple[Path, Recording]]) -> Mapping[str, Recording]:
    recordings: dict[str, Recording] = {}
    for path, recording in found:
        if recording.ticket in recordings:
            raise ConfigError(f"another file records {recording.ticket!r} too", path=path, key="ticket")
        recordings[recording.ticket] = recording
    return recordings
