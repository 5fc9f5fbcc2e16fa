"""How many tokens a call will use, told by the length of what is sent.

A guess: it holds a place among the provider's tokens until the answer says what the call really used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_CHARS_PER_TOKEN: Final = 3.5
_PICTURE_CHARS: Final = 5_600
"""A picture costs by its size, some 1,600 tokens at most, and not by the length of its base64."""


class Estimate:
    """What each ticket's next call adds to what the one before it left in the cache."""

    def __init__(self) -> None:
        self._cached: dict[str, int] = {}

    def uncached_tokens(self, ticket: str, prompt: Sequence[Any]) -> int:
        """Of a call with this prompt: all of it for a ticket's first one, else what is longer than at the last."""
        return round(max(0, _chars(prompt) - self._cached.get(ticket, 0)) / _CHARS_PER_TOKEN)

    def answered(self, ticket: str, prompt: Sequence[Any]) -> None:
        """The ticket's call with this prompt was answered: it is cached now."""
        self._cached[ticket] = _chars(prompt)


def _chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    # Plain dicts and lists nearly always: asked first, since asking an abstract class takes ten times as long.
    if isinstance(value, (dict, Mapping)):
        return _PICTURE_CHARS if value.get("type") == "image" else sum(map(_chars, value.values()))
    return sum(map(_chars, value)) if isinstance(value, (list, Sequence)) else 1
