"""The hops of one request as a tree: who called whom, who served it, where the key was lost. Pure.

The router records hops, not requests. A hop is taken for a part of a request when its trace id says so, or, where a
service starts a new trace, when it began while a hop into its caller was open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sandbox.hops import Hop, Lost, losses, trace
from sandbox.keys import TRACE_MARK, TRACE_RANDOM

_CLOCK_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class Node:
    """One hop and how deep it lies; children follow their parent."""

    hop: Hop
    depth: int


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """All that the router recorded of one request."""

    nodes: tuple[Node, ...]
    lost: tuple[Lost, ...]

    @property
    def hops(self) -> tuple[Hop, ...]:
        return tuple(node.hop for node in self.nodes)


def request_trace(keyed: Sequence[Hop], strays: Sequence[Hop], digits: str) -> RequestTrace:
    """The request whose trace id holds these random digits, out of all hops of a window."""
    mine: list[Hop] = []
    for hop in trace([*keyed, *strays]):
        if _holds(hop, digits) or (not _of_another(hop, digits) and parent_of(hop, mine) is not None):
            mine.append(hop)
    with_key = [hop for hop in mine if hop.key is not None]
    without = [hop for hop in mine if hop.key is None]
    return RequestTrace(_tree(mine), losses(with_key, without))


def parent_of(hop: Hop, earlier: Sequence[Hop]) -> Hop | None:
    """The hop into `hop`'s caller that was open when `hop` began; the latest where several were."""
    open_then = [
        other
        for other in earlier
        if other is not hop
        and other.service == hop.caller
        and other.at <= hop.at + _CLOCK_S
        and hop.at <= other.ended + _CLOCK_S
    ]
    return max(open_then, key=lambda other: other.at, default=None)


def _holds(hop: Hop, digits: str) -> bool:
    return hop.trace_id is not None and hop.trace_id[TRACE_RANDOM] == digits


def _of_another(hop: Hop, digits: str) -> bool:
    """Whether its trace id carries a key for a request that is not this one."""
    return hop.trace_id is not None and hop.trace_id.startswith(TRACE_MARK) and not _holds(hop, digits)


def _tree(hops: Sequence[Hop]) -> tuple[Node, ...]:
    parents = [parent_of(hop, hops[:index]) for index, hop in enumerate(hops)]
    nodes: list[Node] = []

    def add(parent: Hop | None, depth: int) -> None:
        for hop, above in zip(hops, parents, strict=True):
            if above is parent:
                nodes.append(Node(hop, depth))
                add(hop, depth + 1)

    add(None, 0)
    return tuple(nodes)
