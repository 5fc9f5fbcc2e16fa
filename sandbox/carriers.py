"""Carriers of the routing key: how it is read from a request, refused, put on the next one, and taken off again.

The same rules run inside the router (`sandbox/router/normaliser.lua`); a property test holds the two together. Here
they serve whoever starts a request (`fresh`) or wants to know what the router will make of one (`read`, `carry`).

Formats: W3C Baggage (https://www.w3.org/TR/baggage/), W3C Trace Context (https://www.w3.org/TR/trace-context/).
What holds: a member is found by parsing the list, never by substring; every carrier of a request must hold the same
key; a carrier that names the key but holds none is malformed, an empty one too. A trace id that begins with the mark
is a carrier if its key is known (is in the router's table) or stands beside its check; else it is somebody else's.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sandbox.hops import Carrier
from sandbox.keys import TRACE_MARK, TRACE_RANDOM, RoutingKey, is_key, trace_id

KEY_HEADER: Final = "x-spurline-key"
MEMBER: Final = "spurline-key"
Header = tuple[str, str]

_OWS: Final = " \t"
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-fA-F]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-fA-F]{2}(?:-.*)?", re.DOTALL)
_ESCAPE = re.compile(r"%([0-9a-fA-F]{2})")
_RUN = re.compile(r"[0-9a-f]+")
_UUID_LENGTH: Final = 36


@dataclass(frozen=True, slots=True)
class Reading:
    """What the carriers of one request say."""

    found: tuple[tuple[Carrier, str], ...]
    """Every well-formed key, with its carrier, in the order in which carriers are believed."""
    malformed: tuple[Carrier, ...]
    """Carriers that name the key but hold none, once for each time."""

    @property
    def problem(self) -> Literal["malformed", "disagree"] | None:
        """Why the router refuses the request, before it has looked the key up."""
        if self.malformed:
            return "malformed"
        return "disagree" if len({key for _, key in self.found}) > 1 else None

    @property
    def key(self) -> RoutingKey | None:
        """The key, if there is one that can be believed."""
        return RoutingKey(self.found[0][1]) if self.found and self.problem is None else None

    @property
    def carriers(self) -> tuple[Carrier, ...]:
        """The carriers that hold a key, each once."""
        return tuple(dict.fromkeys(carrier for carrier, _ in self.found))


def read(headers: Iterable[Header], extra: Sequence[str] = (), known: Container[str] = ()) -> Reading:
    """What the carriers in `headers` say; `extra` names further ones, `known` are the keys of the router's table.

    Repeated headers count as one list.
    """
    lines = list(headers)
    said: list[tuple[Carrier, str]] = []
    own, baggage = _joined(lines, KEY_HEADER), _joined(lines, "baggage")
    state, parent = _joined(lines, "tracestate"), _joined(lines, "traceparent")
    if own is not None:
        said += [("header", item.strip(_OWS)) for item in own.split(",")]
    said += [("baggage", _decoded(value)) for value in _members(baggage or "", properties=True)]
    said += [("tracestate", value) for value in _members(state or "", properties=False)]
    trace = _trace(parent or "")
    if trace and (key := _keyed(trace[0], known)):
        said.append(("trace-id", key))
    for name in extra:
        said += [("other", key) for key in _other(_joined(lines, name) or "", known)]
    return Reading(
        found=tuple((carrier, value) for carrier, value in said if is_key(value)),
        malformed=tuple(carrier for carrier, value in said if not is_key(value)),
    )


def fresh(key: RoutingKey, extra: Sequence[str] = ()) -> dict[str, str]:
    """Every carrier of `key` for a request that starts here, with a new trace."""
    return dict(carry((), key, extra))


def carry(headers: Iterable[Header], key: RoutingKey, extra: Sequence[str] = ()) -> list[Header]:
    """`headers` for the next hop: every carrier that does not hold the key yet gets it, the rest stays.

    A trace id that holds no key keeps 8 of its digits, its parent id stays; configured headers get the trace id
    (`b3` its single-header form). Names are lower-case where a header is written anew.
    """
    lines, known = list(headers), (key,)
    holds = read(lines, extra, known).carriers
    _replace(lines, KEY_HEADER, key)
    for name in ("baggage", "tracestate"):
        if name not in holds:
            _replace(lines, name, _extended(name, _joined(lines, name) or "", f"{MEMBER}={key}"))
    trace, parent = _trace(_joined(lines, "traceparent") or "") or ("", secrets.token_hex(8))
    if "trace-id" not in holds:
        trace = trace_id(key, trace[TRACE_RANDOM] or secrets.token_hex(4))
        _replace(lines, "traceparent", f"00-{trace}-{parent}-01")
    for name in (name.lower() for name in extra):
        if not list(_other(_joined(lines, name) or "", known)):
            _replace(lines, name, f"{trace}-{parent}-1" if name == "b3" else trace)
    return lines


def strip(headers: Iterable[Header], extra: Sequence[str] = (), known: Container[str] = ()) -> list[Header]:
    """`headers` as they may leave the system: without the key in any carrier. A keyed trace id is replaced."""
    lines = [(name, value) for name, value in headers if name.lower() != KEY_HEADER]
    for name, properties in (("baggage", True), ("tracestate", False)):
        listed = _joined(lines, name)
        if listed is not None:
            _replace(lines, name, ",".join(_others(listed, properties=properties)) or None)
    trace = _trace(_joined(lines, "traceparent") or "")
    if trace and _keyed(trace[0], known):
        _replace(lines, "traceparent", f"00-0000{secrets.token_hex(14)}-{trace[1]}-01")
    for name in extra:
        if list(_other(_joined(lines, name) or "", known)):
            _replace(lines, name, None)
    return lines


def _joined(lines: Sequence[Header], name: str) -> str | None:
    """All lines of a header as one list, None where there is none."""
    values = [value for key, value in lines if key.lower() == name.lower()]
    return ",".join(values) if values else None


def _replace(lines: list[Header], name: str, value: str | None) -> None:
    places = [place for place, (key, _) in enumerate(lines) if key.lower() == name.lower()]
    for place in reversed(places):
        del lines[place]
    if value is not None:
        lines.append((name, value))


def _extended(name: str, listed: str, member: str) -> str:
    """A list with the member: behind the others in baggage, in front of them in tracestate, as its standard says."""
    if not listed.strip(_OWS):
        return member
    return f"{listed},{member}" if name == "baggage" else f"{member},{listed}"


def _named(item: str, *, properties: bool) -> tuple[str, str]:
    """Name and value of one list member, its properties left out."""
    name, _, value = (item.partition(";")[0] if properties else item).partition("=")
    return name.strip(_OWS), value.strip(_OWS)


def _members(listed: str, *, properties: bool) -> Iterator[str]:
    """The values of our member in a list."""
    for item in listed.split(","):
        name, value = _named(item, properties=properties)
        if name == MEMBER:
            yield value


def _others(listed: str, *, properties: bool) -> list[str]:
    """The list members that are not ours, as they stand."""
    return [i for i in listed.split(",") if i and _named(i, properties=properties)[0] != MEMBER]


def _decoded(value: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), value)


def _trace(listed: str) -> tuple[str, str] | None:
    """Trace id and parent id of the first valid traceparent."""
    for item in listed.split(","):
        if match := _TRACEPARENT.fullmatch(item.strip(_OWS)):
            return match[2], match[3]
    return None


def _keyed(trace: str, known: Container[str]) -> str | None:
    """The key of a trace id that is ours."""
    key = trace[4:20]
    ours = trace.startswith(TRACE_MARK) and (key in known or trace == trace_id(key, trace[TRACE_RANDOM]))
    return key if ours else None


def _other(listed: str, known: Container[str]) -> Iterator[str]:
    """Keys in a configured header: members that are one, or trace ids that hold one (bare, in B3, as a UUID)."""
    for item in (item.strip(_OWS) for item in listed.split(",")):
        if is_key(item):
            yield item
        for run in _RUN.findall(item.replace("-", "") if len(item) == _UUID_LENGTH else item):
            if len(run) == 32 and (key := _keyed(run, known)):
                yield key
