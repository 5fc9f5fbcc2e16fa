"""How a request is laid out so that the API finds its prefix in the cache.

Tools, system prompt and history stand in this order and never change once they were sent; only the markers move. The
first marker closes what all agents have in common; the others close the history as the last call and this one have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from harness.agents.conversation import Block, Message

_MARK: Final = {"cache_control": {"type": "ephemeral"}}


def system_blocks(text: str) -> list[Block]:
    """The system prompt, closed by a marker: the prefix of every agent of the run."""
    return [{"type": "text", "text": text, **_MARK}]


def marked(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """`messages` with a marker on the last block of the last two user messages; nothing else is touched.

    The earlier of the two is where the call before this one had its last marker: a message with many tool results
    lies further back than the API looks from a marker."""
    laid = list(messages)
    users = [index for index, message in enumerate(laid) if message["role"] == "user"]
    for index in users[-2:]:
        *rest, last = laid[index]["content"]
        laid[index] = {"role": "user", "content": [*rest, {**last, **_MARK}]}
    return laid
