"""The shapes of the Messages API as they go over the wire: requests, messages, stream events, errors.

After Anthropic's API reference, version 2023-06-01: the types of its errors, and the order of a stream's events.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from harness.agents.conversation import Block, Message, flaw
from harness.agents.rehearsal.cache import PromptTokens, tokens_of
from harness.agents.rehearsal.play import Answer

_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
# Pieces as small as a client's putting together deserves, and no smaller: every one costs it an event.
_PIECE_CHARS: Final = 200


class MessagesRequest(BaseModel):
    """What a rehearsal looks at of a request; the rest is let through as the API's own parameters."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1)
    messages: list[Message]
    max_tokens: int = Field(ge=1)
    stream: bool = False

    def prompt(self) -> dict[str, Any]:
        """What the cache counts of the request."""
        return {**(self.model_extra or {}), "model": self.model, "messages": self.messages}

    def flaw(self) -> str | None:
        """Why the API would refuse it, or None."""
        for index, message in enumerate(self.messages):
            if message.get("role") not in ("user", "assistant"):
                return f'messages.{index}.role: must be "user" or "assistant"'
            if not isinstance(message.get("content"), str | list):
                return f"messages.{index}.content: must be text or a list of blocks"
        if self.messages and self.messages[-1]["role"] == "assistant" and flaw(self.messages) is None:
            return (
                "this model does not support assistant message prefill: the conversation must end with a user message"
            )
        return flaw(self.messages)


def error_body(status: int, message: str, request_id: str) -> dict[str, Any]:
    """The body of an answer with an error."""
    error = {"type": _ERROR_TYPES.get(status, "api_error"), "message": message}
    return {"type": "error", "error": error, "request_id": request_id}


def message_body(answer: Answer, model: str, prompt: PromptTokens, request_id: str) -> dict[str, Any]:
    """A whole message, as an answer without streaming has it."""
    return {
        "id": f"msg_{hashlib.sha256(request_id.encode()).hexdigest()[:24]}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": answer.content,
        "stop_reason": answer.stop_reason,
        "stop_sequence": None,
        "usage": {**_prompt_usage(prompt), "output_tokens": output_tokens(answer)},
    }


def stream_events(answer: Answer, model: str, prompt: PromptTokens, request_id: str) -> Iterator[bytes]:
    """The same message as server-sent events. The first one begins the message, the last one ends it."""
    whole = message_body(answer, model, prompt, request_id)
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**_prompt_usage(prompt), "output_tokens": 1}}
    yield event("message_start", {"message": begun})
    yield event("ping", {})
    for index, block in enumerate(answer.content):
        yield from _block_events(index, block)
    ending = {"stop_reason": answer.stop_reason, "stop_sequence": None}
    yield event("message_delta", {"delta": ending, "usage": {"output_tokens": whole["usage"]["output_tokens"]}})
    yield event("message_stop", {})


def event(kind: str, data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def _block_events(index: int, block: Block) -> Iterator[bytes]:
    empty: Block
    if block["type"] == "text":
        empty, text, delta, field = {"type": "text", "text": ""}, block["text"], "text_delta", "text"
    else:
        text, delta, field = json.dumps(block["input"], ensure_ascii=False), "input_json_delta", "partial_json"
        empty = {**block, "input": {}}
    yield event("content_block_start", {"index": index, "content_block": empty})
    for start in range(0, len(text), _PIECE_CHARS):
        piece = {"type": delta, field: text[start : start + _PIECE_CHARS]}
        yield event("content_block_delta", {"index": index, "delta": piece})
    yield event("content_block_stop", {"index": index})


def _prompt_usage(prompt: PromptTokens) -> dict[str, int]:
    return {
        "input_tokens": prompt.fresh,
        "cache_read_input_tokens": prompt.cache_read,
        "cache_creation_input_tokens": prompt.cache_write,
    }


def output_tokens(answer: Answer) -> int:
    """How many tokens an answer has."""
    return sum(tokens_of(json.dumps(block)) for block in answer.content)
