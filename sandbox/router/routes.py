"""What changes while the router runs: the normaliser with its table of keys, as the one route that all listeners share.

The table is a Lua table inside the script that the route carries, so a request costs the same with one key as with a
thousand, and an update is one file, taken in one step: there is no cluster, virtual host or matcher a key. (Route
metadata would read better, but Envoy copies all of it for each request that looks at it.)
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sandbox.keys import TRACE_MARK
from sandbox.router import lua
from sandbox.router.table import KeyRoutes
from sandbox.service import Protocol

ROUTE_NAME: Final = "keys"
VERSION_ENTRY: Final = "version"
PAIR_FILTER: Final = "spurline.pair"
INGRESS_FILTER: Final = "spurline.ingress"
PROBE_FILTER: Final = "spurline.probe"
TAP_FILTER: Final = "spurline.tap"
"""Names of the filters: by them the route says which script is whose, and which one a request skips."""
CLUSTER_HEADER: Final = "x-spurline-cluster"
SLOT_HEADER: Final = "x-spurline-slot"
"""Set by listeners of which the normaliser must see every request: services outside, and the ingress, there to the
port that the request came in by."""
WATCH_HEADER: Final = "x-spurline-watch"
"""Set by the normaliser where an exchange is to be captured however it ends."""
MEMBER: Final = "spurline-key"
METADATA: Final = "spurline"
"""Where the normaliser leaves what it found and decided, as metadata of the request: no header of ours reaches a
service but the carriers."""
RECORD: Final = "r"
DESTINATION: Final = "d"
_TYPES: Final = "type.googleapis.com/"
Json = dict[str, Any]


def typed(name: str, /, **fields: Any) -> Json:
    """A message inside an `Any`: its type by full name, its fields beside it."""
    return {"@type": _TYPES + name, **fields}


@dataclass(frozen=True, slots=True)
class ServiceConstants:
    """What the normaliser knows of one service."""

    name: str
    number: int
    protocol: Protocol
    host: str | None
    """Its authority where it is outside of this machine: there no key may go."""


@dataclass(frozen=True, slots=True)
class Routes:
    """Writes the routes of one system."""

    services: Sequence[ServiceConstants]
    carriers: Sequence[str]
    refuse_unknown: bool

    def file(self, table: Sequence[KeyRoutes], version: str, ports_of: Callable[[int], Sequence[int]]) -> str:
        """The whole RDS file; `ports_of` says by which ports of the ingress a slot is reached.

        The route's time-outs are off: a stream may stay open for as long as it likes.
        """
        keys = lua.constants(KEYS=self.entries(table))
        slots = {str(port): r.key for r in table if r.slot is not None for port in ports_of(r.slot)}
        host = {
            "name": ROUTE_NAME,
            "domains": ["*"],
            "routes": self._routes(version),
            "typed_per_filter_config": {
                PAIR_FILTER: self._script(keys, ports=None),
                INGRESS_FILTER: self._script(keys, ports=slots),
            },
        }
        configuration = typed(
            "envoy.config.route.v3.RouteConfiguration",
            name=ROUTE_NAME,
            virtual_hosts=[host],
            request_headers_to_remove=[CLUSTER_HEADER, SLOT_HEADER, WATCH_HEADER],
        )
        return json.dumps({"version_info": version, "resources": [configuration]}, separators=(",", ":"))

    def _routes(self, version: str) -> list[Json]:
        """One route a carrier, so that a request without any skips our filters; where it goes is the same."""
        action = {"cluster_header": CLUSTER_HEADER, "timeout": "0s"}
        told = [
            {"name": SLOT_HEADER, "present_match": True},
            {"name": "x-spurline-key", "present_match": True},
            {"name": "baggage", "string_match": {"contains": MEMBER}},
            {"name": "tracestate", "string_match": {"contains": MEMBER}},
            {"name": "traceparent", "string_match": {"contains": TRACE_MARK}},
            *({"name": name.lower(), "present_match": True} for name in self.carriers),
        ]
        looked = [{"match": {"prefix": "/", "headers": [header]}, "route": action} for header in told]
        off = typed("envoy.config.route.v3.FilterConfig", disabled=True)
        skipped = {
            "match": {"prefix": "/"},
            "route": action,
            "metadata": {"filter_metadata": {PROBE_FILTER: {VERSION_ENTRY: version}}},
            "typed_per_filter_config": {PAIR_FILTER: off, TAP_FILTER: off},
        }
        return [*looked, skipped]

    def entries(self, table: Sequence[KeyRoutes]) -> dict[str, str]:
        """The table as the normaliser reads it.

        `key` -> `b`, the key is known, or `w`, it asks nobody but the baseline; `key.N` -> `ip:port generation`, or `x`
        for a planted fault, N the service's number.
        """
        numbers = {service.name: service.number for service in self.services}
        found: dict[str, str] = {}
        for routes in table:
            found[routes.key] = "b" if routes.forks or routes.faults else "w"
            for service, target in routes.forks.items():
                found[f"{routes.key}.{numbers[service]}"] = f"{target.address} {target.generation}"
            for service in routes.faults:
                found[f"{routes.key}.{numbers[service]}"] = "x"
        return found

    def _script(self, keys: str, *, ports: Mapping[str, str] | None) -> Json:
        """`keys`: the table as Lua text; `ports`: port -> key at the ingress, None at a calling pair."""
        services = {
            baseline_cluster(service.name): {
                "number": f".{service.number}",
                "forks": forks_cluster(service.protocol),
                "host": service.host,
            }
            for service in self.services
        }
        constants = lua.constants(
            SERVICES=services,
            EXTRA=[name.lower() for name in self.carriers],
            REFUSE_UNKNOWN=self.refuse_unknown,
            PORTS=ports,
            SEED=secrets.randbits(31),
        )
        return typed(
            "envoy.extensions.filters.http.lua.v3.LuaPerRoute",
            source_code={"inline_string": keys + constants + lua.script("normaliser.lua")},
        )


def baseline_cluster(service: str) -> str:
    return f"baseline/{service}"


def forks_cluster(protocol: Protocol) -> str:
    return f"forks/{protocol}"


def replace(path: Path, text: str) -> None:
    """Put `text` at `path` in one step: Envoy watches for the rename and never sees half a file."""
    beside = path.with_name(path.name + ".new")
    beside.touch(mode=0o600)
    beside.write_text(text)
    beside.rename(path)
