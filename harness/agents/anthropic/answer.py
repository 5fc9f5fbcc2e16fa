"""One answer of the model, put together from the events of its stream.

The SDK's own reader builds three values an event, and parses a tool's whole input so far for every piece of it; with a
hundred agents talking at once that was most of a core. Here pieces are kept, and put together when their block ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from anthropic.types import Message, RawContentBlockDeltaEvent, RawMessageDeltaEvent, RawMessageStreamEvent, Usage
from pydantic_core import from_json

from harness.agents.conversation import Block

_JOINED: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
"""Which field of these deltas is a piece of its block."""
_USAGE: Final = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class Answer:
    """What has come of an answer so far."""

    def __init__(self) -> None:
        self.message: Message | None = None
        """As it began: its model and what it cost until now are true, its content is not. None before it begins."""
        self.stop_reason: str | None = None
        """Why it ended; None while it goes on."""
        self._blocks: list[Block] = []
        self._pieces: list[list[str]] = []

    def take(self, event: RawMessageStreamEvent) -> None:
        """The next event. ValueError where it cannot come next, or has not the shape of one: nobody has checked it."""
        with _shapes():
            self._take(event)

    def _take(self, event: RawMessageStreamEvent) -> None:
        if event.type == "message_start":
            self.message = _begun(event.message)
        elif self.message is None:
            raise ValueError(f"{event.type} before the message has begun")
        elif event.type == "content_block_start":
            self._blocks.append(event.content_block.to_dict(mode="json", warnings=False))
            self._pieces.append([])
        elif event.type == "content_block_delta":
            self._add(event)
        elif event.type == "message_delta":
            _renew(self.message.usage, event)
            stop_reason = event.delta.stop_reason
            self.stop_reason = None if stop_reason is None else _text(stop_reason)

    def _add(self, event: RawContentBlockDeltaEvent) -> None:
        delta = event.delta
        if not 0 <= event.index < len(self._blocks):
            raise ValueError("a piece of a block that has not begun")
        if (field := _JOINED.get(delta.type)) is not None:
            self._pieces[event.index].append(_text(getattr(delta, field)))
        elif delta.type == "signature_delta":
            self._blocks[event.index]["signature"] = delta.signature
        elif delta.type == "citations_delta":
            block = self._blocks[event.index]
            block["citations"] = [*(block.get("citations") or []), delta.citation.to_dict(mode="json", warnings=False)]

    def content(self) -> list[Block]:
        """Its blocks as they are to be sent back. ValueError where a tool's input is no JSON object, or a block has not
        the shape of one."""
        # One that was cut at its limit ends in the middle of an input.
        cut = self.stop_reason != "tool_use"
        pairs = zip(self._blocks, self._pieces, strict=True)
        with _shapes():
            return [_whole(block, "".join(pieces), cut=cut) for block, pieces in pairs]


@contextmanager
def _shapes() -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"an event of another shape: {error}") from error


def _begun(message: object) -> Message:
    """The message with counts that can be added up: gateways leave some out. ValueError where it is none."""
    if not isinstance(message, Message):
        raise ValueError("a message_start without a message")
    model: object = message.model
    usage: object = message.usage
    message.model = model if isinstance(model, str) else ""
    message.usage = usage if isinstance(usage, Usage) else Usage(input_tokens=0, output_tokens=0)
    for name in _USAGE:
        count = getattr(message.usage, name)
        if _count(count) is None and (count is not None or name in ("input_tokens", "output_tokens")):
            setattr(message.usage, name, 0)
    return message


def _renew(usage: Usage, event: RawMessageDeltaEvent) -> None:
    """Counts of a message_delta are totals; what it does not say stays as the beginning said it."""
    for name in _USAGE:
        if (count := _count(getattr(event.usage, name, None))) is not None:
            setattr(usage, name, count)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text belongs")
    return value


def _object(made: object) -> dict[str, Any]:
    if not isinstance(made, dict):
        raise TypeError("a tool's input that is no object")
    return made


def _whole(block: Block, rest: str, *, cut: bool) -> Block:
    """The block with its pieces: the fields that the API takes, no others."""
    match block["type"]:
        case "text" if not block.get("citations"):
            return {"type": "text", "text": block.get("text", "") + rest}
        case "text" | "thinking" as kind:
            return {**block, kind: block.get(kind, "") + rest}
        case "tool_use":
            made = _object(_parsed(rest, cut=cut) if rest else block.get("input") or {})
            return {"type": "tool_use", "id": _text(block["id"]), "name": _text(block["name"]), "input": made}
        case _:
            return {**block, "input": _parsed(rest, cut=cut)} if rest else block


def _parsed(text: str, *, cut: bool) -> Any:
    # A number that is none could not be sent back.
    return from_json(text, allow_partial=cut, allow_inf_nan=False)
