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

    def uncached_tokens(self, ticket: str, length: int) -> int:
        """Of a call with a prompt of so many `chars`: all of it for a ticket's first one, else what is longer than at
        the last."""
        return round(max(0, length - self._cached.get(ticket, 0)) / _CHARS_PER_TOKEN)

    def answered(self, ticket: str, length: int) -> None:
        """The ticket's call with a prompt of so many `chars` was answered: it is cached now."""
        self._cached[ticket] = length


def chars(value: Any) -> int:
    """How long a prompt is: the text in it, and for each picture about what it costs."""
    if isinstance(value, str):
        return len(value)
    # Plain dicts and lists nearly always: asked first, since asking an abstract class takes ten times as long.
    if isinstance(value, (dict, Mapping)):
        return _PICTURE_CHARS if value.get("type") == "image" else sum(map(chars, value.values()))
    return sum(map(chars, value)) if isinstance(value, (list, Sequence)) else 1
