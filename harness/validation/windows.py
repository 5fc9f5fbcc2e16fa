"""What the router's records of a check say: which forks served it, what went wrong, where the key was lost.

Pure, over `sandbox.driver.Window`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from harness.validation.facts import RecordFacts
from harness.validation.results import CheckResult
from sandbox.driver import Window
from sandbox.exchanges import Exchange
from sandbox.hops import Hop, Lost, losses, trace
from sandbox.seen import Seen, seen, shape
from sandbox.service import CLIENT, System

_ORIGINS: Final = 2
_SERVER_ERROR: Final = 500
_GRPC_ERRORS: Final = (2, 12, 13, 14, 15)
"""UNKNOWN, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS."""


def served(window: Window, generations: Mapping[str, int]) -> Counter[str]:
    """Requests that each fork's current generation served."""
    return Counter(
        hop.service for hop in window.hops if hop.served_by == "fork" and hop.generation == generations.get(hop.service)
    )


def faults(window: Window, service: str) -> int:
    """Requests that the planted fault of the service answered."""
    return sum(hop.served_by == "fault" and hop.service == service for hop in window.hops)


def errors(window: Window, result: CheckResult) -> frozenset[str]:
    """The errors of forks' own, in words, that were answered to a neighbour, and that are not in what was seen of the
    check on the baseline, where it came to `result`."""
    known = {(hop.kind, hop.status, hop.grpc_status) for hop in result.seen.hops}
    return frozenset(
        f"{hop.service} answered {hop.caller} with {_error(hop)} ({hop.method} {shape(hop.path)})"
        for hop in window.hops
        if hop.served_by == "fork" and hop.caller != CLIENT and _error(hop)
        if ((hop.caller, hop.service, hop.method, shape(hop.path)), hop.status, hop.grpc_status) not in known
    )


def _error(hop: Hop) -> str:
    """What went wrong at the hop itself; empty where nothing did, or the caller was to blame."""
    if hop.grpc_status in _GRPC_ERRORS:
        return f"gRPC status {hop.grpc_status}"
    return str(hop.status) if hop.status >= _SERVER_ERROR else ""


def signature(exchange: Exchange) -> str:
    """What a failing exchange is, whichever numbers are in its path: for telling a new failure from a known one."""
    return f"{exchange.service} {exchange.method} {shape(exchange.path)} {exchange.status} {exchange.grpc_status or 0}"


def failures(window: Window) -> tuple[str, ...]:
    """The signatures of a window's failing exchanges."""
    return tuple(sorted({signature(exchange) for exchange in window.exchanges}))


def origins(window: Window, said: str, known: Sequence[str]) -> list[Exchange]:
    """Where a check that said so much failed: at the hops that answered, not at those that passed the failure on; not
    what is known to happen on the baseline as well; and first what is behind an answer that the check complains of."""
    found = [one for one in window.exchanges if not any(other.caller == one.service for other in window.exchanges)]
    found = _distinct(found or window.exchanges)
    news = [one for one in found if signature(one) not in known]
    return sorted(news or found, key=lambda one: not _complained_of(one, window, said))[:_ORIGINS]


def seen_in(window: Window, result: CheckResult, known: Sequence[str]) -> Seen:
    """What is kept of a run of a check that came to `result`."""
    found = [] if result.passed else origins(window, result.said, known)
    # What happens on the baseline as well is not where it failed.
    found = [one for one in found if signature(one) not in known]
    return seen(window.hops, _distinct(window.exchanges), found, result.seen.answer, window.fine)


def _complained_of(exchange: Exchange, window: Window, said: str) -> bool:
    """Whether the answer to the request from outside that led to the exchange stands in what the check said."""
    entered = [one for one in window.exchanges if one.caller == CLIENT and one.at <= exchange.at]
    body = max(entered, key=lambda one: one.at).response_body.strip() if entered else ""
    return bool(body) and body in said


def _distinct(exchanges: Iterable[Exchange]) -> list[Exchange]:
    kept: dict[str, Exchange] = {}
    for one in exchanges:
        kept.setdefault(signature(one), one)
    return list(kept.values())


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


def mistaken(window: Window) -> tuple[Lost, ...]:
    """Where a service that was called with the key called on with another, that nobody has, and was refused."""
    return losses(window.hops, [stray for stray in window.strays if stray.served_by == "refused"])


def aside(window: Window, unasked: Iterable[str], system: System) -> tuple[Lost, ...]:
    """Where a fork that had been asked called on without the key, perhaps after it had answered, on a way that leads to
    one of `unasked`: forks that were not asked, though the check asks their services on the baseline."""
    wanted = frozenset(unasked)
    began: dict[str, float] = {}
    for hop in window.hops:
        if hop.served_by == "fork":
            began[hop.service] = min(hop.at, began.get(hop.service, hop.at))
    return tuple(
        Lost(stray.caller, stray.service)
        for stray in window.strays
        if began.get(stray.caller, stray.at + 1) <= stray.at and wanted & reachable(stray.service, system)
    )


def unexplained(strays: Sequence[Hop]) -> tuple[Hop, ...]:
    """Strays whose caller was not itself called without a key at the time: it need not have lost one."""
    return tuple(
        stray
        for stray in strays
        if not any(
            other.service == stray.caller and other.at <= stray.at <= other.ended
            for other in strays
            if other is not stray and other.served_by != "refused"
        )
    )


def reachable(service: str, system: System) -> frozenset[str]:
    """The service and all that it calls, by way of others too."""
    known: set[str] = set()
    front = [service]
    while front:
        name = front.pop()
        if name not in known and name in system.services:
            known.add(name)
            front += system.services[name].neighbours
    return frozenset(known)
