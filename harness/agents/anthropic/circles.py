"""Circles: an agent that makes the same calls again and again, and hears the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any, Final

from harness.agents.conversation import tool_calls
from harness.agents.transcript import Entry

_LONGEST: Final = 4
"""Up to so many calls that take turns are noticed to be the same ones."""


def same_calls(turn: Sequence[Entry]) -> tuple[int, int]:
    """How many times in a row, at the end, the agent made the same calls and got the same results; and how many calls
    took turns in that."""
    rounds: list[tuple[Any, Any] | None] = []
    for asked, told in pairwise(turn):
        if asked.origin == "agent" and told.origin == "tools":
            calls = [(call["name"], call["input"]) for call in tool_calls(asked.message)]
            rounds.append((calls, [block["content"] for block in told.content]))
        elif asked.origin == "agent":
            rounds.append(None)
    if not rounds or rounds[-1] is None:
        return 0, 1
    found = {circle: _again(rounds, circle) for circle in range(1, _LONGEST + 1)}
    circle = max(found, key=lambda one: found[one])
    return found[circle] + 1, circle


def _again(rounds: Sequence[tuple[Any, Any] | None], circle: int) -> int:
    """How many rounds at the end, in a row, are each the same as the one so many before."""
    pairs = zip(reversed(rounds), reversed(rounds[:-circle]), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1] is not None, pairs))
