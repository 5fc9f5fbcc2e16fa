"""What stays while the router runs: the bootstrap file, and one listener a calling pair, so that each record knows
caller and service.

Everything listens on loopback or on a Unix socket in a private folder. JSON, since YAML reads `no` and `1e3` as
other types.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from sandbox.router.clusters import CASE_KEPT, Upstream, baseline_cluster, clusters, forks_cluster
from sandbox.router.control import Sockets
from sandbox.router.ports import LOOPBACK
from sandbox.router.routes import CLUSTER_HEADER, METADATA, RECORD, ROUTE_NAME, VERSION_ENTRY, Json, typed
from sandbox.router.tap import tap_filter
from sandbox.service import CLIENT, Protocol, Service, System

PROBE: Final = "probe"
_HEADERS_LIMIT_KB: Final = 256
_OPEN_STREAM_INTERVAL: Final = "1s"


@dataclass(frozen=True, slots=True)
class Paths:
    """The files that Envoy reads and writes, all in the router's own folder."""

    bootstrap: Path
    listeners: Path
    routes: Path
    records: Path
    captures: Path
    log: Path

    @classmethod
    def below(cls, folder: Path) -> Paths:
        return cls(
            bootstrap=folder / "bootstrap.json",
            listeners=folder / "listeners.json",
            routes=folder / "routes.json",
            records=folder / "records.log",
            captures=folder / "captures",
            log=folder / "envoy.log",
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """Writes the listeners of one system. `numbers` names services and `pairs` calling pairs in records and tables."""

    system: System
    upstreams: Mapping[str, Upstream]
    paths: Paths
    sockets: Sockets

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple(self.system.pairs())

    @property
    def numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.system.services)}

    def bootstrap(self) -> str:
        """The static part: admin, clusters, the probe, and where the rest is read from."""
        return json.dumps(
            {
                "node": {"id": "spurline", "cluster": "spurline"},
                "admin": {"address": {"pipe": {"path": str(self.sockets.admin), "mode": 0o600}}},
                "static_resources": {
                    "listeners": [self._probe()],
                    "clusters": clusters(self.system, self.upstreams),
                },
                "dynamic_resources": {"lds_config": _watched(self.paths.listeners)},
            }
        )

    def file(self, listeners: Sequence[Json], version: int) -> str:
        """The LDS file."""
        named = [typed("envoy.config.listener.v3.Listener", **listener) for listener in listeners]
        return json.dumps({"version_info": str(version), "resources": named})

    def pair(self, number: int, port: int) -> Json:
        """The listener by which a caller reaches a service."""
        caller, name = self.pairs[number]
        return self._listener(f"pair/{caller}/{name}", number, [port], slots=None)

    def ingress(self, name: str, block: int, slots: Mapping[int, int]) -> Json:
        """The keyed ingress of one service for a block of sandboxes: slot -> port. The caller is the outside."""
        number = self.pairs.index((CLIENT, name))
        return self._listener(f"ingress/{block}/{name}", number, list(slots.values()), slots=slots)

    def _listener(self, name: str, pair: int, ports: Sequence[int], *, slots: Mapping[int, int] | None) -> Json:
        service = self.system.services[self.pairs[pair][1]]
        chain = self._tcp(service) if service.protocol == "tcp" else self._http(service, service.protocol, pair, slots)
        first, *others = (_address(port) for port in ports)
        return {
            "name": name,
            "address": first,
            "additional_addresses": [{"address": address} for address in others],
            "filter_chains": [{"filters": [chain]}],
        }

    def _tcp(self, service: Service) -> Json:
        proxy = typed(
            "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            stat_prefix="tcp",
            cluster=baseline_cluster(service.name),
            idle_timeout="0s",
        )
        return {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}

    def _http(self, service: Service, protocol: Protocol, pair: int, slots: Mapping[int, int] | None) -> Json:
        constants = self._constants(service, protocol, slots)
        filters = [_lua(constants + script("normaliser.lua")), tap_filter(self.paths.captures, pair)]
        cluster = {"key": CLUSTER_HEADER, "value": baseline_cluster(service.name)}
        manager = _manager("hop", self.paths, filters) | {
            "access_log": [_access_log(self.paths.records, _record_format(pair))],
            "access_log_options": {
                "flush_log_on_tunnel_successfully_established": True,
                "access_log_flush_interval": _OPEN_STREAM_INTERVAL,
            },
            "early_header_mutation_extensions": [_overwrite(cluster)],
        }
        return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}

    def _constants(self, service: Service, protocol: Protocol, slots: Mapping[int, int] | None) -> str:
        upstream = self.upstreams[service.name]
        outside = service.url is not None and not upstream.is_loopback
        by_port = {str(port): str(slot) for slot, port in slots.items()} if slots else None
        values: dict[str, Any] = {
            "SERVICE": f".{self.numbers[service.name]}",
            "FORKS": forks_cluster(protocol),
            "REFUSE_UNKNOWN": self.system.unknown_key == "refuse",
            "EXTRA": [name.lower() for name in self.system.carriers],
            "EGRESS": outside,
            "HOST": upstream.authority if outside else None,
            "SLOTS": by_port,
            "SEED": secrets.randbits(31),
        }
        return "".join(f"local {name} = {_lua_value(value)}\n" for name, value in values.items())

    def _probe(self) -> Json:
        """Answers with the live version of the table, and writes marks into the records."""
        constants = f"local VERSION = {_lua_value(VERSION_ENTRY)}\n"
        manager = _manager(PROBE, self.paths, [_lua(constants + script("probe.lua"))]) | {
            "access_log": [_access_log(self.paths.records, {"mark": "%REQ(:PATH)%"}) | {"filter": _MARKS}]
        }
        return {
            "name": PROBE,
            "address": {"pipe": {"path": str(self.sockets.probe), "mode": 0o600}},
            "filter_chains": [
                {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
            ],
        }


_MARKS: Final[Json] = {
    "header_filter": {"header": {"name": ":path", "string_match": {"prefix": "/mark/"}}},
}


def script(name: str) -> str:
    """One of the Lua scripts that are packaged beside this module."""
    return resources.files("sandbox.router").joinpath(name).read_text()


def _manager(prefix: str, paths: Paths, filters: Sequence[Json]) -> Json:
    router = typed("envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True)
    return typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=prefix,
        rds={"route_config_name": ROUTE_NAME, "config_source": _watched(paths.routes)},
        http_filters=[*filters, {"name": "envoy.filters.http.router", "typed_config": router}],
        generate_request_id=False,
        server_header_transformation="PASS_THROUGH",
        skip_xff_append=True,
        stream_idle_timeout="0s",
        max_request_headers_kb=_HEADERS_LIMIT_KB,
        upgrade_configs=[{"upgrade_type": "websocket"}],
        http_protocol_options={"accept_http_10": True, "header_key_format": CASE_KEPT, "enable_trailers": True},
        http2_protocol_options={"allow_connect": True},
    )


def _lua(source: str) -> Json:
    """A Lua filter that clears the route cache only where its script says so."""
    config = typed(
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": source},
        clear_route_cache=False,
    )
    return {"name": "envoy.filters.http.lua", "typed_config": config}


def _overwrite(header: Mapping[str, str]) -> Json:
    mutation = {"append": {"header": dict(header), "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation", mutations=[mutation]
        ),
    }


def _access_log(path: Path, fields: Mapping[str, Any]) -> Json:
    config = typed(
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=str(path),
        log_format={"json_format": dict(fields), "omit_empty_values": True},
    )
    return {"name": "envoy.access_loggers.file", "typed_config": config}


def _record_format(pair: int) -> Json:
    """One record of a hop; `sandbox.router.records` reads it. `r` is what the normaliser found and decided."""
    return {
        "p": pair,
        "a": "%START_TIME(%s.%9f)%",
        "d": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
        "e": "%DURATION%",
        "r": f"%DYNAMIC_METADATA({METADATA}:{RECORD})%",
        "t": "%REQ(TRACEPARENT):55%",
        "u": "%UPSTREAM_HOST%",
        "m": "%REQ(:METHOD):20%",
        "q": "%REQ(:PATH):2000%",
        "s": "%RESPONSE_CODE%",
        "g": "%GRPC_STATUS_NUMBER%",
        "f": "%RESPONSE_FLAGS%",
        "c": "%CONNECTION_ID%",
        "y": "%ACCESS_LOG_TYPE%",
    }


def _watched(path: Path) -> Json:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _address(port: int) -> Json:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _lua_value(value: object) -> str:
    """A Python value as a Lua literal. Strings come from configuration: everything but plain characters is escaped."""
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return '"' + "".join(_lua_character(character) for character in value) + '"'
        case list():
            return "{" + ", ".join(_lua_value(item) for item in value) + "}"
        case dict():
            return "{" + ", ".join(f"[{_lua_value(k)}] = {_lua_value(v)}" for k, v in value.items()) + "}"
        case _:
            raise TypeError(f"no Lua literal for {type(value).__name__}")


def _lua_character(character: str) -> str:
    if character.isalnum() and character.isascii():
        return character
    return "".join(f"\\{byte:03d}" for byte in character.encode())
