"""What the router's records of a check say: which forks served it, what went wrong, where the key was lost.

Pure, over `sandbox.driver.Window`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from harness.validation.facts import RecordFacts
from sandbox.driver import Window
from sandbox.exchanges import Exchange
from sandbox.hops import Hop, Lost, losses, trace
from sandbox.service import CLIENT, System


def served(window: Window, generations: Mapping[str, int]) -> Counter[str]:
    """Requests that each fork's current generation served."""
    return Counter(
        hop.service for hop in window.hops if hop.served_by == "fork" and hop.generation == generations.get(hop.service)
    )


def faults(window: Window, service: str) -> int:
    """Requests that the planted fault of the service answered."""
    return sum(hop.served_by == "fault" and hop.service == service for hop in window.hops)


def signature(exchange: Exchange) -> str:
    """What a failing exchange is, whichever numbers are in its path: for telling a new failure from a known one."""
    path = re.sub(r"\d+", "#", exchange.path.partition("?")[0])
    return f"{exchange.service} {exchange.method} {path} {exchange.status} {exchange.grpc_status or 0}"


def failures(window: Window) -> tuple[str, ...]:
    """The signatures of a window's failing exchanges."""
    return tuple(sorted({signature(exchange) for exchange in window.exchanges}))


def story(window: Window, exchange: Exchange) -> tuple[Hop, ...]:
    """The hops of the request from outside during which an exchange took place; all, where there is none."""
    hops = trace(window.hops)
    entered = [hop for hop in hops if hop.caller == CLIENT and hop.at <= exchange.at <= hop.ended]
    if not entered:
        return hops
    return tuple(hop for hop in hops if entered[-1].at <= hop.at <= entered[-1].ended)


def record_facts(windows: Iterable[Window], generations: Mapping[str, int]) -> RecordFacts:
    """What speaks against the records of several windows."""
    dropped, found, where = 0, Counter[str](), dict[str, None]()
    for window in windows:
        dropped += window.dropped
        for hop in blemished(window, generations):
            found[_blemish(hop, generations)] += 1
            where |= {hop.caller: None, hop.service: None}
    return RecordFacts(dropped, found["refused"], found["unrouted"], found["old"], tuple(where))


def blemished(window: Window, generations: Mapping[str, int]) -> tuple[Hop, ...]:
    """The hops that were refused, not routed, or served by an old generation."""
    return tuple(hop for hop in window.hops if _blemish(hop, generations))


def _blemish(hop: Hop, generations: Mapping[str, int]) -> str:
    if hop.served_by == "refused":
        return "refused"
    if not hop.routed:
        return "unrouted"
    return "old" if hop.served_by == "fork" and hop.generation != generations.get(hop.service) else ""


def lost_towards(window: Window, forks: Iterable[str], system: System) -> tuple[Lost, ...]:
    """Where the key was lost on a way that leads to one of `forks`."""
    wanted = frozenset(forks)
    found = losses(window.hops, unexplained(window.strays))
    return tuple(loss for loss in found if wanted & reachable(loss.callee, system))


def unexplained(strays: Sequence[Hop]) -> tuple[Hop, ...]:
    """Strays whose caller was not itself called without a key at the time: it need not have lost one."""
    return tuple(
        stray
        for stray in strays
        if not any(
            other.service == stray.caller and other.at <= stray.at <= other.ended
            for other in strays
            if other is not stray
        )
    )


def reachable(service: str, system: System) -> frozenset[str]:
    """The service and all that it calls, by way of others too."""
    seen: set[str] = set()
    front = [service]
    while front:
        name = front.pop()
        if name not in seen and name in system.services:
            seen.add(name)
            front += system.services[name].neighbours
    return frozenset(seen)
