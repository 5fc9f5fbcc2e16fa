"""One answer of the model, put together from the events of its stream.

The SDK's own reader builds three values an event, and parses a tool's whole input so far for every piece of it; with a
hundred agents talking at once that was most of a core. Here pieces are kept, and put together when their block ends.
"""

from __future__ import annotations

from typing import Final

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
        """The next event. ValueError where it cannot come next."""
        if event.type == "message_start":
            self.message = event.message
        elif self.message is None:
            raise ValueError(f"{event.type} before the message has begun")
        elif event.type == "content_block_start":
            self._blocks.append(event.content_block.to_dict(mode="json"))
            self._pieces.append([])
        elif event.type == "content_block_delta":
            self._add(event)
        elif event.type == "message_delta":
            self.stop_reason = event.delta.stop_reason
            _renew(self.message.usage, event)

    def _add(self, event: RawContentBlockDeltaEvent) -> None:
        delta = event.delta
        if not 0 <= event.index < len(self._blocks):
            raise ValueError("a piece of a block that has not begun")
        if (field := _JOINED.get(delta.type)) is not None:
            self._pieces[event.index].append(getattr(delta, field))
        elif delta.type == "signature_delta":
            self._blocks[event.index]["signature"] = delta.signature
        elif delta.type == "citations_delta":
            block = self._blocks[event.index]
            block["citations"] = [*(block.get("citations") or []), delta.citation.to_dict(mode="json")]

    def content(self) -> list[Block]:
        """Its blocks as they are to be sent back. ValueError where a tool's input is no JSON."""
        # One that was cut at its limit ends in the middle of an input.
        cut = self.stop_reason != "tool_use"
        pairs = zip(self._blocks, self._pieces, strict=True)
        return [_whole(block, "".join(pieces), cut=cut) for block, pieces in pairs]


def _renew(usage: Usage, event: RawMessageDeltaEvent) -> None:
    """Counts of a message_delta are totals; what it does not say stays as the beginning said it."""
    for name in _USAGE:
        if (count := getattr(event.usage, name)) is not None:
            setattr(usage, name, count)


def _whole(block: Block, rest: str, *, cut: bool) -> Block:
    """The block with its pieces: the fields that the API takes, no others."""
    match block["type"]:
        case "text" if not block.get("citations"):
            return {"type": "text", "text": block.get("text", "") + rest}
        case "text" | "thinking" as kind:
            return {**block, kind: block.get(kind, "") + rest}
        case "tool_use":
            made = from_json(rest, allow_partial=cut) if rest else block.get("input") or {}
            return {"type": "tool_use", "id": block["id"], "name": block["name"], "input": made}
        case _:
            return {**block, "input": from_json(rest, allow_partial=cut)} if rest else block
