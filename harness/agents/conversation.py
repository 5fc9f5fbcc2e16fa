"""Conversations in the shape of the Messages API, and the rules by which the API accepts them.

A message is a plain dictionary `{"role", "content"}` whose content is a list of blocks. `mended` makes a conversation
that was broken off anywhere acceptable again; it is pure and always gives the same for the same log, so that what the
API has cached stays a prefix. `flaw` states the rules, independently of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

Role = Literal["user", "assistant"]
Block = dict[str, Any]
Message = dict[str, Any]

INTERRUPTED: Final = "The run was interrupted before this tool call ended; its result is lost. Call the tool again."
"""The result of a tool call whose own was lost: it may have happened, fully, partly or not at all."""


def text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def tool_result(tool_use_id: str, content: str | list[Block], *, is_error: bool = False) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": tool_use_id, "content": content}
    return {**block, "is_error": True} if is_error else block


def tool_calls(message: Message) -> list[Block]:
    """The tool calls of a message, in order."""
    return [block for block in blocks_of(message) if block["type"] == "tool_use"]


def blocks_of(message: Message) -> list[Block]:
    """The blocks of a message; text as content is one block."""
    content = message["content"]
    return [text_block(content)] if isinstance(content, str) else list(content)


def text_of(message: Message) -> str:
    """All text of a message, that of its tool results included, one piece a line."""
    pieces: list[str] = []
    for block in blocks_of(message):
        inner = block.get("content") if block["type"] == "tool_result" else None
        if isinstance(inner, str):
            pieces.append(inner)
        elif isinstance(inner, list):
            pieces += [part["text"] for part in inner if part.get("type") == "text"]
        elif block["type"] == "text":
            pieces.append(block["text"])
    return "\n".join(pieces)


def mended(log: Iterable[Message]) -> list[Message]:
    """`log` as the API accepts it: roles alternate, every tool call is answered, nothing is empty."""
    messages: list[Message] = []
    for raw in log:
        blocks = [block for block in blocks_of(raw) if block["type"] != "text" or block["text"].strip()]
        if not blocks:
            continue
        if messages and messages[-1]["role"] == raw["role"]:
            messages[-1] = {"role": raw["role"], "content": [*messages[-1]["content"], *blocks]}
        else:
            messages.append({"role": raw["role"], "content": blocks})
    answered: list[Message] = []
    for message in messages:
        open_calls = tool_calls(answered[-1]) if answered else []
        if message["role"] == "user":
            answered.append({"role": "user", "content": _results_first(message["content"], open_calls)})
        else:
            answered.append(message)
    if answered and answered[-1]["role"] == "assistant" and (calls := tool_calls(answered[-1])):
        answered.append({"role": "user", "content": _results_first([], calls)})
    return answered


def _results_first(blocks: Sequence[Block], calls: Sequence[Block]) -> list[Block]:
    """One result for each call, in order, lost ones made up; then what else there is."""
    results = {block["tool_use_id"]: block for block in blocks if block["type"] == "tool_result"}
    rest = [block for block in blocks if block["type"] != "tool_result"]
    lost = (results.get(call["id"]) or tool_result(call["id"], INTERRUPTED, is_error=True) for call in calls)
    return [*lost, *rest]


def flaw(messages: Sequence[Message]) -> str | None:
    """Why the API would refuse the conversation, in its own manner; None when it would not."""
    if not messages:
        return "messages: at least one message is required"
    if messages[0]["role"] != "user":
        return 'messages: first message must use the "user" role'
    for index, message in enumerate(messages):
        before = messages[index - 1] if index else None
        if (problem := _flaw_of(message, before, last=index == len(messages) - 1)) is not None:
            return f"messages.{index}: {problem}"
    return None


def _flaw_of(message: Message, before: Message | None, *, last: bool) -> str | None:
    blocks = blocks_of(message)
    if not blocks:
        return "all messages must have non-empty content"
    if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
        return "text content blocks must be non-empty"
    if before is not None and before["role"] == message["role"]:
        return 'roles must alternate between "user" and "assistant"'
    results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    calls = [] if before is None else [call["id"] for call in tool_calls(before)]
    if missing := [call for call in calls if call not in results]:
        return f"`tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(missing)}"
    if unknown := [result for result in results if result not in calls]:
        return f"unexpected `tool_use_id` found in `tool_result` blocks: {', '.join(unknown)}"
    if len(set(results)) != len(results):
        return "each `tool_use` must have a single result"
    if any(block["type"] == "tool_result" for block in blocks[len(results) :]):
        return "`tool_result` blocks must come first"
    if last and message["role"] == "assistant" and tool_calls(message):
        return "`tool_use` ids were found without `tool_result` blocks immediately after"
    return None
