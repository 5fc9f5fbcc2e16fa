"""One answer of the model, put together from the events of its stream.

The SDK makes values of each event, and parses a tool's whole input so far for every piece of it; with a hundred agents
talking at once that was most of a core. Here pieces are kept, and put together when their block ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from pydantic_core import from_json

from harness.agents.conversation import Block

_JOINED: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
"""Which field of these deltas is a piece of its block."""
_USAGE: Final = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class Answer:
    """What has come of an answer so far."""

    def __init__(self) -> None:
        self.model: str | None = None
        """Which one answers, "" where it does not say; None before it begins."""
        self.usage = dict.fromkeys(_USAGE, 0)
        """What it cost until now, by the API's names: gateways leave some out."""
        self.stop_reason: str | None = None
        """Why it ended; None while it goes on."""
        self._blocks: list[Block] = []
        self._pieces: list[list[str]] = []

    def take(self, event: Mapping[str, Any]) -> None:
        """The next event, as it was sent. ValueError where it cannot come next, or has not the shape of one: nobody has
        checked it."""
        with _shapes():
            self._take(event)

    def _take(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        if kind == "message_start":
            message = _object(event["message"])
            model = message.get("model")
            self.model = model if isinstance(model, str) else ""
            self._count(message.get("usage"))
        elif self.model is None:
            raise ValueError(f"{kind} before the message has begun")
        elif kind == "content_block_start":
            self._blocks.append(dict(_object(event["content_block"])))
            self._pieces.append([])
        elif kind == "content_block_delta":
            self._add(event["index"], event["delta"])
        elif kind == "message_delta":
            self._count(event.get("usage"))
            stop_reason = event["delta"].get("stop_reason")
            self.stop_reason = None if stop_reason is None else _text(stop_reason)

    def _count(self, usage: object) -> None:
        """Counts are totals; what is not said stays as it was."""
        if isinstance(usage, dict):
            counts = ((name, usage.get(name)) for name in _USAGE)
            self.usage |= {name: count for name, count in counts if isinstance(count, int) and count >= 0}

    def _add(self, index: int, delta: Mapping[str, Any]) -> None:
        if not 0 <= index < len(self._blocks):
            raise ValueError("a piece of a block that has not begun")
        if (field := _JOINED.get(delta["type"])) is not None:
            self._pieces[index].append(_text(delta[field]))
        elif delta["type"] == "signature_delta":
            self._blocks[index]["signature"] = delta["signature"]
        elif delta["type"] == "citations_delta":
            block = self._blocks[index]
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]

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


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text belongs")
    return value


def _object(made: object) -> dict[str, Any]:
    if not isinstance(made, dict):
        raise TypeError(f"{type(made).__name__} where an object belongs")
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
