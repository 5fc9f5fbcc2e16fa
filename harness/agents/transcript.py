"""Transcripts: the conversation of one agent in one run, append-only on disk.

A JSON Lines file a ticket, `FOLDER/RUN/TICKET.jsonl`. Its first line names the format; every other line is one message
as it was said. A message is on the disk before the next thing happens. Whatever moment the process died in, opening
the file again gives a conversation that the API accepts: a line that was half written is moved aside, and what is
missing in the conversation is mended on reading, never in the file. The transcript of an attempt that carries on begins
with all that was said in the one before; its first line tells how many entries that are.

Each generation of a ticket's claim has a file of its own, `TICKET~GENERATION.jsonl` from the second on, which begins
with all that stood in the one before; that one is removed then. So a file has one writer, and no lock that a process
that stands still could hold: one that was taken for dead finds its file gone, or writes where nobody reads.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from graphs.ports import LeaseLost
from harness.agents.conversation import Block, Message, Role, mended
from tasks.errors import StoreError

VERSION: Final = 1
TORN_SUFFIX: Final = ".torn"
FIRST: Final = 1
"""The first generation of a claim."""

Origin = Literal["loop", "agent", "tools", "harness", "user"]
"""Who said a message: the ticket loop (the ticket, evidence), the model, its tools, the agent's own code, the user."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a transcript."""

    origin: Origin
    role: Role
    content: list[Block]
    at: float
    """Seconds since the epoch."""
    stop_reason: str | None = None
    """Of a message of the model: why it stopped."""
    iteration: int | None = None
    """Of a message of the loop: in which iteration it was said."""
    note: int | None = None
    """Of a message of the user: which note it is."""

    @property
    def message(self) -> Message:
        return {"role": self.role, "content": self.content}


@dataclass(slots=True)
class Transcript:
    """A transcript, open for one generation; `add` blocks until the line is on the disk."""

    path: Path
    entries: list[Entry] = field(default_factory=list)
    carried: int = 0
    """How many of the entries were said in the attempt before."""

    @classmethod
    def open(cls, folder: Path, run: str, ticket: str, generation: int = FIRST) -> Transcript:
        """The transcript of `ticket` in `run`, made where there is none, and taken over from an earlier generation.
        Raises StoreError, and LeaseLost where a later one has it."""
        path = _path(folder / run, ticket, generation)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = _whole_lines(path) or _taken_over(path, ticket, generation)
            if not lines:
                _begin(path, [_head(run, ticket)])
        except OSError as error:
            raise _unusable(path, error) from error
        carried = _check_head(path, lines[0]) if lines else 0
        return cls(path, [_entry(path, number, line) for number, line in enumerate(lines[1:], 2)], carried)

    @property
    def own(self) -> list[Entry]:
        """The entries of this attempt."""
        return self.entries[self.carried :]

    def add(
        self,
        origin: Origin,
        content: Sequence[Block],
        *,
        stop_reason: str | None = None,
        iteration: int | None = None,
        note: int | None = None,
    ) -> Entry:
        """Append one message. Raises StoreError when the disk does not take it, LeaseLost where a later generation has
        taken the transcript over; then it was not said."""
        role: Role = "assistant" if origin == "agent" else "user"
        entry = Entry(origin, role, _sound(content), time.time(), stop_reason, iteration, note)
        try:
            _append(self.path, _line(entry))
        except FileNotFoundError as error:
            ticket, generation = _named(self.path)
            if any(other > generation for other in _generations(self.path.parent, ticket)):
                raise LeaseLost(ticket) from error
            raise _unusable(self.path, error) from error
        except OSError as error:
            raise _unusable(self.path, error) from error
        self.entries.append(entry)
        return entry

    def messages(self) -> list[Message]:
        """The conversation so far, as the API accepts it."""
        return mended(entry.message for entry in self.entries)


def current(folder: Path, run: str, ticket: str) -> Path:
    """The file of the ticket's transcript as it is by now; the first one's, which may not be there, where none is."""
    return _path(folder / run, ticket, max(_generations(folder / run, ticket), default=FIRST))


def read(path: Path) -> Iterator[Entry]:
    """The entries of a transcript file that nobody writes; a half-written last line is passed over."""
    lines = [line for line in path.read_bytes().split(b"\n")[:-1] if line]
    for number, line in enumerate(lines[1:], 2):
        yield _entry(path, number, line)


def carry_over(folder: Path, run: str, earlier: str, ticket: str, generation: int = FIRST) -> bool:
    """Begin the transcript of `ticket` with that of `earlier`, where it is not there yet. Whether it begins with
    anything. Raises StoreError, and LeaseLost where a later generation has it."""
    path = _path(folder / run, ticket, generation)
    try:
        if lines := _whole_lines(path) or _taken_over(path, ticket, generation):
            return _check_head(path, lines[0]) > 0
        said = _whole_lines(current(folder, run, earlier))[1:]
        if not said:
            return False
        _begin(path, [_head(run, ticket, carried=len(said)), *said])
    except OSError as error:
        raise _unusable(path, error) from error
    return True


def _path(folder: Path, ticket: str, generation: int) -> Path:
    # `~` is in no ticket's id, nor in the name of an attempt.
    return folder / (f"{ticket}.jsonl" if generation <= FIRST else f"{ticket}~{generation}.jsonl")


def _named(path: Path) -> tuple[str, int]:
    """The ticket and the generation that a file's name says."""
    ticket, _, generation = path.name.removesuffix(".jsonl").partition("~")
    return ticket, int(generation or FIRST)


def _generations(folder: Path, ticket: str) -> list[int]:
    """Those that have a file of the ticket's transcript."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except FileNotFoundError:
        return []
    of_ticket = re.compile(rf"{re.escape(ticket)}(?:~(\d+))?\.jsonl")
    return [int(found[1] or FIRST) for name in names if (found := of_ticket.fullmatch(name))]


def _taken_over(path: Path, ticket: str, generation: int) -> list[bytes]:
    """The lines that the file begins with now: those of the latest generation before."""
    others = sorted(set(_generations(path.parent, ticket)) - {generation})
    if others and others[-1] > generation:
        raise LeaseLost(ticket)
    lines: list[bytes] = []
    if others and (lines := _whole_lines(_path(path.parent, ticket, others[-1]), cut=False)):
        _begin(path, lines)
    for other in others:
        _path(path.parent, ticket, other).unlink(missing_ok=True)
    return lines


def _begin(path: Path, lines: Sequence[bytes]) -> None:
    """Have the file begin with these lines: it is there with all of them, or not at all."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    beside.touch(0o600)
    _put(beside, b"".join(line + b"\n" for line in lines))
    os.replace(beside, path)  # noqa: PTH105


def _head(run: str, ticket: str, **more: int) -> bytes:
    return json.dumps({"transcript": VERSION, "run": run, "ticket": ticket, **more}, separators=(",", ":")).encode()


def _whole_lines(path: Path, *, cut: bool = True) -> list[bytes]:
    """The lines of the file that were written whole; what follows them is moved aside, and `cut` off."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    end = data.rfind(b"\n") + 1
    if torn := data[end:]:
        with path.with_name(path.name + TORN_SUFFIX).open("ab") as aside:
            aside.write(torn + b"\n")
        if cut:
            os.truncate(path, end)
    return data[:end].split(b"\n")[:-1]


def _check_head(path: Path, line: bytes) -> int:
    """How many entries were carried over; StoreError where it is no head of ours."""
    head = _parsed(path, 1, line)
    if head.get("transcript") != VERSION:
        raise StoreError(
            f"{path}:1: this is no transcript of format {VERSION}",
            hint="another version of Spurline wrote it, or it is another file: move it away, or use that version",
        )
    return int(head.get("carried", 0))


def _entry(path: Path, number: int, line: bytes) -> Entry:
    data = _parsed(path, number, line)
    try:
        rest = data.get("stop_reason"), data.get("iteration"), data.get("note")
        return Entry(data["origin"], data["role"], data["content"], data["at"], *rest)
    except KeyError as error:
        raise StoreError(
            f"{path}:{number}: the line lacks {error}", hint="restore the file, or start a new run"
        ) from None


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise StoreError(f"{path}:{number}: not a line of a transcript", hint="restore the file, or start a new run")
    return data


def _line(entry: Entry) -> dict[str, Any]:
    line = {"origin": entry.origin, "role": entry.role, "at": round(entry.at, 3), "content": entry.content}
    rest = {"stop_reason": entry.stop_reason, "iteration": entry.iteration, "note": entry.note}
    return {**line, **{name: value for name, value in rest.items() if value is not None}}


def _sound(content: Sequence[Block]) -> list[Block]:
    """`content` without lone surrogates, which a model can write and UTF-8 cannot."""
    sound: list[Block] = json.loads(json.dumps(content, ensure_ascii=False).encode(errors="replace"))
    return sound


def _append(path: Path, line: dict[str, Any]) -> None:
    _put(path, json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def _put(path: Path, data: bytes) -> None:
    """Add `data` at the end of the file, which is there, on the disk, or leave it as it was."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, data)
            if written < len(data):
                raise OSError(28, "the disk took only a part of the line")
            os.fsync(descriptor)
        except OSError:
            # A full disk may take half a line: no later line may follow it.
            os.ftruncate(descriptor, size_bytes)
            raise
    finally:
        os.close(descriptor)


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path}: the transcript cannot be kept: {error.strerror or error}",
        hint="check the permissions and the free space of .spurline/",
    )
