"""What the router is told: which key goes where. Plain values; the driver makes them, the router writes them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox.keys import RoutingKey


@dataclass(frozen=True, slots=True)
class Target:
    """The process that serves one forked service."""

    address: str
    """`ip:port`."""
    generation: int


@dataclass(frozen=True, slots=True)
class KeyRoutes:
    """All routes of one sandbox."""

    name: str
    key: RoutingKey
    forks: Mapping[str, Target] = field(default_factory=dict)
    faults: frozenset[str] = frozenset()
    """Services that answer 503 for this key: the planted fault."""
    slot: int | None = None
    """Which block of ingress ports is this sandbox's."""
