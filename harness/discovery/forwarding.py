"""Which services hand the routing key on, judged from hop records alone. Pure.

A service that was called with the key and called on shows by its own calls what it forwards: the carriers that held
the key as it sent them. A call of its without any key, begun while a keyed request into it was open, is one it lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from harness.discovery.diagnosis import Diagnosis, ok, warning
from sandbox.hops import Carrier, Hop, losses
from sandbox.service import System

Forwards = Literal["all", "trace-id", "other", "some", "nothing", "not exercised", "calls nobody"]
"""`all`: baggage or one of our own headers, besides what else; `some`: to some neighbours and not to others."""

_SUBJECT: Final = "carriers of"


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What one service does with the key."""

    service: str
    forwards: Forwards
    carriers: tuple[Carrier, ...] = ()
    """The carriers that held the key in its own calls, in the order in which the router believes them."""
    kept: tuple[str, ...] = ()
    """Neighbours that it called with the key."""
    lost: tuple[str, ...] = ()
    """Neighbours that it called without it."""
    entered: int = 0
    """Keyed requests that reached it."""


def forwarding(system: System, keyed: Sequence[Hop], strays: Sequence[Hop]) -> tuple[Forwarding, ...]:
    """One judgement a service, in the system's order. `keyed` are the hops with the probe's key, `strays` those
    without any key in the same window."""
    gone = losses(keyed, strays)
    found = []
    for name, service in system.services.items():
        sent = [hop for hop in keyed if hop.caller == name]
        entered = sum(1 for hop in keyed if hop.service == name and hop.routed)
        kept = tuple(dict.fromkeys(hop.service for hop in sent))
        lost = tuple(loss.callee for loss in gone if loss.service == name)
        held = {carrier for hop in sent for carrier in hop.carriers}
        carriers = tuple(carrier for carrier in _ORDER if carrier in held)
        calls = bool(service.neighbours) and service.url is None
        found.append(Forwarding(name, _judged(calls, carriers, kept, lost), carriers, kept, lost, entered))
    return tuple(found)


_ORDER: Final[tuple[Carrier, ...]] = ("header", "baggage", "tracestate", "trace-id", "other")


def _judged(calls: bool, carriers: tuple[Carrier, ...], kept: tuple[str, ...], lost: tuple[str, ...]) -> Forwards:
    if kept and lost:
        return "some"
    if lost:
        return "nothing"
    if not kept:
        return "not exercised" if calls else "calls nobody"
    if {"header", "baggage", "tracestate"} & set(carriers):
        return "all"
    return "trace-id" if "trace-id" in carriers else "other"


def explained(one: Forwarding) -> Diagnosis:
    """The judgement in words, with what to do."""
    subject = f"{_SUBJECT} {one.service}"
    named = ", ".join(one.carriers).replace("trace-id", "traceparent")
    callees = ", ".join(one.lost)
    match one.forwards:
        case "all":
            return ok(subject, f"forwards {named}")
        case "trace-id":
            return ok(subject, "forwards only traceparent; the trace id carries the key; fine")
        case "other":
            return ok(subject, "forwards a header of baseline.carriers; fine")
        case "calls nobody":
            return ok(subject, "calls no other service: there is nothing to forward")
        case "some":
            text = f"forwards {named} to {', '.join(one.kept)}, but nothing to {callees}: requests lose the key there"
            return warning(subject, text, _way_out(f"its calls to {callees}"), "config")
        case "nothing":
            text = f"forwards nothing: requests through it lose the key (seen on the way to {callees})"
            return warning(subject, text, _way_out("its calls"), "config")
        case "not exercised":
            return warning(subject, _unseen(one), "name a request that does: `--request 'GET /path'`", "config")


def _unseen(one: Forwarding) -> str:
    if not one.entered:
        return "no request of the probe reached it with the key"
    times = "a request" if one.entered == 1 else f"{one.entered} requests"
    return f"was reached by {times} of the probe, but called nobody meanwhile"


def _way_out(what: str) -> str:
    return (
        f"instrument {what} with OpenTelemetry's propagators (tracecontext, baggage), pass `traceparent` on by hand, "
        "or name a header that it does forward under baseline.carriers"
    )
