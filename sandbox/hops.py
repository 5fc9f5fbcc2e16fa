"""Hops: one service that a request passed, who served it, and by which carrier the key came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sandbox.keys import masked

ServedBy = Literal["fork", "baseline", "refused", "fault"]
"""`refused`: the router answered 421 (unknown key, or carriers that disagree); `fault`: the planted 503."""

Carrier = Literal["header", "baggage", "tracestate", "trace-id", "other"]
"""In the order in which the router believes them."""


def is_error(status: int, grpc_status: int | None) -> bool:
    """Whether an answer is one: HTTP 4xx, 5xx or none (0), or a gRPC status other than 0."""
    return status == 0 or status >= 400 or (grpc_status or 0) != 0


@dataclass(frozen=True, slots=True)
class Hop:
    """One record of the router. `at` is the start in seconds since the epoch."""

    at: float
    duration_ms: float
    caller: str
    service: str
    key: str | None
    """The key the request came with, None where it came with none."""
    carriers: tuple[Carrier, ...]
    """The carriers that held the key as the caller sent it."""
    trace_id: str | None
    served_by: ServedBy
    generation: int | None
    """The fork's generation; None unless a fork served it."""
    upstream: str
    """`ip:port` of who served it; empty where nobody did."""
    method: str
    path: str
    status: int
    """0 where the caller or the upstream went away before an answer."""
    grpc_status: int | None = None
    flags: str = ""
    """Envoy's response flags, `-` left out: `UF`, `UH`, `NR`, `DC`, … Empty when all went well."""

    @property
    def ended(self) -> float:
        return self.at + self.duration_ms / 1000

    @property
    def failed(self) -> bool:
        """Whether the answer was an error."""
        return is_error(self.status, self.grpc_status)

    @property
    def routed(self) -> bool:
        """Whether the router found somebody to serve it."""
        return self.served_by != "refused" and not {"NR", "UH", "UF", "NC", "URX"} & set(self.flags.split(","))

    def shown(self) -> str:
        """One line for people; the key is masked."""
        who = f"fork g{self.generation}" if self.served_by == "fork" else self.served_by
        key = f"key {masked(self.key)}" if self.key else "no key"
        return f"{self.caller} → {self.service}  {self.method} {self.path}  {self.status}  {who}  {key}"


@dataclass(frozen=True, slots=True)
class Lost:
    """Where a key was lost: it came into `service`, and `service` called `callee` without it."""

    service: str
    callee: str


def trace(hops: Sequence[Hop]) -> tuple[Hop, ...]:
    """The hops in the order in which they began."""
    return tuple(sorted(hops, key=lambda hop: (hop.at, -hop.duration_ms)))


def losses(keyed: Sequence[Hop], strays: Sequence[Hop]) -> tuple[Lost, ...]:
    """Services that were called with the key and, while they answered, called on without any.

    A stray is a hop without a key, or with one that nobody has. Its caller lost the key if a keyed hop into that caller
    was open when the stray began; with many agents at once an unkeyed request of somebody else may coincide, so this
    names suspects for a verdict that is `unproven` already, and never decides one.
    """
    found: dict[Lost, None] = {}
    for stray in strays:
        for hop in keyed:
            if hop.service == stray.caller and hop.at <= stray.at <= hop.ended:
                found[Lost(service=stray.caller, callee=stray.service)] = None
    return tuple(found)
