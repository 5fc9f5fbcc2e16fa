"""How the API counts a prompt: what was read from the cache, what was written to it, and what was neither.

It keeps hashes of prompt prefixes only. A breakpoint (`cache_control`) writes the prefix up to it; a later prompt reads
the longest prefix that was written and that it repeats byte for byte. So an agent whose prefix is not stable shows it.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from harness.agents.conversation import blocks_of

_CHARS_PER_TOKEN: Final = 4
_MAX_PREFIXES: Final = 50_000


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """The tokens of a prompt; the three parts add up to all of it."""

    fresh: int
    cache_read: int
    cache_write: int


def tokens_of(text: str) -> int:
    """Roughly how many tokens `text` has; 1 at least."""
    return max(1, len(text) // _CHARS_PER_TOKEN)


class PrefixCache:
    """The prefixes that were written, the most recent ones."""

    def __init__(self) -> None:
        self._written: OrderedDict[bytes, None] = OrderedDict()

    def count(self, request: dict[str, Any], *, remember: bool = True) -> PromptTokens:
        """Count the prompt of a Messages API request, and remember its breakpoints, unless it is not let in."""
        total = read = marked = 0
        digest = hashlib.sha256(str(request.get("model")).encode())
        for text, is_breakpoint in _pieces(request):
            digest.update(text.encode(errors="replace"))
            total += tokens_of(text)
            prefix = digest.digest()
            if prefix in self._written:
                self._written.move_to_end(prefix)
                read = total
            elif is_breakpoint and remember:
                self._written[prefix] = None
            if is_breakpoint:
                marked = total
        while len(self._written) > _MAX_PREFIXES:
            self._written.popitem(last=False)
        read = min(read, marked)
        return PromptTokens(fresh=total - marked, cache_read=read, cache_write=marked - read)


def _pieces(request: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """The prompt in the order in which the API reads it, a block at a time, with whether a breakpoint follows."""
    system = request.get("system") or []
    blocks = [
        *(request.get("tools") or []),
        *([{"type": "text", "text": system}] if isinstance(system, str) else system),
    ]
    for message in request["messages"]:
        blocks += [{"role": message["role"], **block} for block in blocks_of(message)]
    for block in blocks:
        marked = "cache_control" in block
        bare = {key: value for key, value in block.items() if key != "cache_control"} if marked else block
        yield json.dumps(bare, separators=(",", ":")), marked
