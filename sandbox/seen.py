"""What is kept of the hops and exchanges of one run of a check: few, small, redacted, without keys, moments, addresses.

Pure. The router's records are gone with the baseline; this is what a verdict, and whoever reads it later, has of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sandbox.exchanges import Exchange
from sandbox.hops import Hop, ServedBy, is_error, trace
from sandbox.keys import masked
from tasks.text import capped, one_line, plain

HOPS_LIMIT: Final = 40
EXCHANGES_LIMIT: Final = 4
FINE_LIMIT: Final = 16
TEXT_LIMIT: Final = 2_000
_PATH_LIMIT: Final = 200
# Different in every request, or of the router's making: of no use beside the baseline's.
_NOISE: Final = re.compile(
    r"(?i)baggage|traceparent|tracestate|x-spurline.*|x-b3.*|x-datadog.*|x-request-id|x-envoy.*|x-forwarded.*|date"
    r"|server|content-length|host|user-agent|accept.*|connection|transfer-encoding|via|keep-alive|te"
)

_QUIET: Final[Mapping[str, Any]] = {"times": 1, "origin": False, "generation": None, "grpc_status": None}

Kind = tuple[str, str, str, str]
"""Caller, service, method and the shape of a path."""


@dataclass(frozen=True, slots=True)
class SeenHop:
    """Hops that differ in nothing but the numbers in their paths."""

    caller: str
    service: str
    method: str
    path: str
    """Of the first of them."""
    status: int
    served_by: ServedBy
    generation: int | None = None
    grpc_status: int | None = None
    times: int = 1
    origin: bool = False
    """Whether what the check complains of came from here."""

    @property
    def kind(self) -> Kind:
        return self.caller, self.service, self.method, shape(self.path)

    @property
    def failed(self) -> bool:
        """As of a hop."""
        return is_error(self.status, self.grpc_status)


@dataclass(frozen=True, slots=True)
class SeenExchange:
    """An exchange that failed, or one that went well on the baseline, of which the request is left out. Both texts are
    headers, one a line, an empty line, and the body."""

    caller: str
    service: str
    method: str
    path: str
    status: int
    request: str
    response: str
    grpc_status: int | None = None

    @property
    def kind(self) -> Kind:
        return self.caller, self.service, self.method, shape(self.path)

    @property
    def failed(self) -> bool:
        """As of a hop."""
        return is_error(self.status, self.grpc_status)


@dataclass(frozen=True, slots=True)
class Seen:
    """One run of one check."""

    hops: tuple[SeenHop, ...] = ()
    """In the order in which the first of each began."""
    exchanges: tuple[SeenExchange, ...] = ()
    """Those first that the check complains of, those last that went well."""
    answer: str = ""
    """Of an HTTP check: the status of the answer, its headers, an empty line, its body."""

    def beside(self, other: Seen) -> Seen:
        """Without the exchanges that went well here, but for those that failed in the `other` run."""
        failed = {one.kind for one in other.hops if one.failed}
        return replace(self, exchanges=tuple(one for one in self.exchanges if one.failed or one.kind in failed))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; fields of a hop that say nothing are left out."""
        hops = [{name: value for name, value in asdict(hop).items() if value != _QUIET.get(name)} for hop in self.hops]
        return {**asdict(self), "hops": hops}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Seen:
        """What `to_json` gave; KeyError or TypeError for anything else."""
        return Seen(
            tuple(SeenHop(**hop) for hop in data["hops"]),
            tuple(SeenExchange(**exchange) for exchange in data["exchanges"]),
            data["answer"],
        )


def seen(
    hops: Iterable[Hop],
    exchanges: Sequence[Exchange],
    origins: Sequence[Exchange],
    answer: str = "",
    fine: Iterable[Exchange] = (),
) -> Seen:
    """What is to be kept. `origins` are the exchanges that the check complains of: there it failed. Of those that went
    well, the `fine` ones, the first of each kind."""
    marked = {(*_kind(one), one.status) for one in origins}
    kept = tuple(dict.fromkeys(_exchange(one) for one in (*origins, *exchanges)))[:EXCHANGES_LIMIT]
    well = {_kind(one): one for one in reversed(tuple(fine))}
    first = [replace(_exchange(one), request="") for one in reversed(well.values())]
    return Seen(_hops(hops, marked), (*kept, *first[:FINE_LIMIT]), capped(plain(answer), TEXT_LIMIT))


def shape(path: str) -> str:
    """A path without its query, and without the numbers that are in it."""
    return re.sub(r"\d+", "#", path.partition("?")[0])


def message(headers: Mapping[str, str], body: str) -> str:
    """Headers that say something, one a line, an empty line, and the body."""
    said = "".join(f"{name}: {one_line(value)}\n" for name, value in headers.items() if not _NOISE.fullmatch(name))
    return f"{said}\n{body}"


def _hops(hops: Iterable[Hop], origins: set[tuple[str, str, str, str, int]]) -> tuple[SeenHop, ...]:
    found: dict[tuple[Any, ...], SeenHop] = {}
    for hop in trace(tuple(hops)):
        kind = *_kind(hop), hop.status, hop.grpc_status, hop.served_by, hop.generation
        known = found.get(kind)
        found[kind] = replace(known, times=known.times + 1) if known else _hop(hop, origins)
    # Where there are too many, those that say why stay.
    first = sorted(found.values(), key=lambda one: (not one.origin, not one.failed))[:HOPS_LIMIT]
    return tuple(one for one in found.values() if one in first)


def _hop(hop: Hop, origins: set[tuple[str, str, str, str, int]]) -> SeenHop:
    return SeenHop(
        caller=hop.caller,
        service=hop.service,
        method=one_line(hop.method, 40),
        path=_without(hop.path, hop.key, _PATH_LIMIT),
        status=hop.status,
        served_by=hop.served_by,
        generation=hop.generation,
        grpc_status=hop.grpc_status,
        origin=(*_kind(hop), hop.status) in origins,
    )


def _exchange(exchange: Exchange) -> SeenExchange:
    return SeenExchange(
        caller=exchange.caller,
        service=exchange.service,
        method=one_line(exchange.method, 40),
        path=_without(exchange.path, exchange.key, _PATH_LIMIT),
        status=exchange.status,
        request=_without(message(exchange.request_headers, exchange.request_body), exchange.key),
        response=_without(message(exchange.response_headers, exchange.response_body), exchange.key),
        grpc_status=exchange.grpc_status,
    )


def _kind(one: Hop | Exchange) -> Kind:
    return one.caller, one.service, one.method, shape(one.path)


def _without(text: str, key: str | None, limit: int = TEXT_LIMIT) -> str:
    """The text, plain and short, with the routing key cut to what may be shown."""
    return capped(plain(text if key is None else text.replace(key, masked(key))), limit)
