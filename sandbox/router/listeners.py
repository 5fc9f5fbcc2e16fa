"""What stays while the router runs: the bootstrap file, and one listener a calling pair, so that each record knows
caller and service.

Everything listens on loopback or on a Unix socket in a private folder. JSON, since YAML reads `no` and `1e3` as
other types.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.router import lua
from sandbox.router.clusters import CASE_KEPT, Upstream, clusters
from sandbox.router.control import Sockets
from sandbox.router.lines import hop_format, mark_format
from sandbox.router.ports import LOOPBACK
from sandbox.router.routes import (
    CLUSTER_HEADER,
    INGRESS_FILTER,
    PAIR_FILTER,
    PROBE_FILTER,
    ROUTE_NAME,
    SLOT_HEADER,
    WATCH_HEADER,
    Json,
    Routes,
    ServiceConstants,
    baseline_cluster,
    typed,
)
from sandbox.router.tap import tap_filter
from sandbox.service import CLIENT, Service, System

PROBE: Final = "probe"
REDIRECT_FILTER: Final = "spurline.redirect"
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
    def routes(self) -> Routes:
        """The writer of what changes, over the same services."""
        services = tuple(
            ServiceConstants(name, number, service.protocol, self._host(service))
            for number, (name, service) in enumerate(self.system.services.items())
        )
        return Routes(services, self.system.carriers, self.system.unknown_key == "refuse")

    def _host(self, service: Service) -> str | None:
        upstream = self.upstreams[service.name]
        return None if service.url is None or upstream.is_loopback else upstream.authority

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
        return self._listener(f"pair/{caller}/{name}", number, [port], script=None)

    def ingress(self, block: int, ports: Mapping[str, Mapping[int, int]], plain: Mapping[int, str]) -> list[Json]:
        """The keyed ingress of a block of sandboxes (service -> slot -> port): a listener a service.

        `plain` says whose an unkeyed port is, so that redirects to one can be kept inside. The caller is the outside.
        """
        return [
            self._listener(
                f"ingress/{block}/{name}",
                self.pairs.index((CLIENT, name)),
                list(slots.values()),
                script=_ingress_script(name, ports, plain),
            )
            for name, slots in ports.items()
        ]

    def _listener(self, name: str, pair: int, ports: Sequence[int], *, script: str | None) -> Json:
        """`script` is the ingress's own, None for a calling pair."""
        service = self.system.services[self.pairs[pair][1]]
        chain = self._tcp(service) if service.protocol == "tcp" else self._http(service, pair, script)
        first, *others = (_address(port) for port in ports)
        return {
            "name": name,
            "address": first,
            "additional_addresses": [{"address": address} for address in others],
            "filter_chains": [{"filters": [chain]}],
            # Or whoever runs as the same user, a fork for one, could listen here as well and answer in our place.
            "enable_reuse_port": False,
        }

    def _tcp(self, service: Service) -> Json:
        proxy = typed(
            "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            stat_prefix="tcp",
            cluster=baseline_cluster(service.name),
            idle_timeout="0s",
        )
        return {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}

    def _http(self, service: Service, pair: int, script: str | None) -> Json:
        filters = [tap_filter(self.paths.captures, pair)]
        headers = {CLUSTER_HEADER: baseline_cluster(service.name)}
        if self._host(service) is not None:
            headers[SLOT_HEADER] = "-"
        if script is None:
            filters.insert(0, _lua(PAIR_FILTER))
        else:
            filters[:0] = [_for_redirects(_lua(REDIRECT_FILTER, script)), _lua(INGRESS_FILTER)]
            headers[SLOT_HEADER] = "%DOWNSTREAM_LOCAL_PORT%"
        manager = _manager("hop", self.paths, filters) | {
            "access_log": [_access_log(self.paths.records, hop_format(pair))],
            "access_log_options": {
                "flush_log_on_tunnel_successfully_established": True,
                "access_log_flush_interval": _OPEN_STREAM_INTERVAL,
            },
            "early_header_mutation_extensions": [_overwrite(headers)],
        }
        return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}

    def _probe(self) -> Json:
        """Answers with the live version of the table, and writes marks into the records."""
        manager = _manager(PROBE, self.paths, [_lua(PROBE_FILTER, lua.script("probe.lua"))]) | {
            "access_log": [_access_log(self.paths.records, mark_format()) | {"filter": _MARKS}]
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


def _ingress_script(service: str, ports: Mapping[str, Mapping[int, int]], plain: Mapping[int, str]) -> str:
    by_slot: dict[str, dict[str, str]] = {}
    for name, slots in ports.items():
        for slot, port in slots.items():
            by_slot.setdefault(str(slot), {})[name] = str(port)
    constants = lua.constants(
        SERVICE=service,
        SLOTS={str(port): str(slot) for slot, port in ports[service].items()},
        INGRESS=by_slot,
        SERVICES={str(port): name for port, name in plain.items()},
    )
    return constants + lua.script("ingress.lua")


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
        http_protocol_options={
            "accept_http_10": True,
            "default_host_for_http_10": "localhost",
            "header_key_format": CASE_KEPT,
            "enable_trailers": True,
        },
        http2_protocol_options={"allow_connect": True},
    )


def _lua(name: str, source: str = "") -> Json:
    """A Lua filter that clears the route cache only where its script says so; without a source the route has it."""
    code = {"default_source_code": {"inline_string": source}} if source else {}
    config = typed("envoy.extensions.filters.http.lua.v3.Lua", clear_route_cache=False, **code)
    return {"name": name, "typed_config": config}


def _for_redirects(filter_: Json) -> Json:
    """The filter, skipped for every response without an absolute Location: a Lua call costs more than such a look."""
    location = typed("envoy.type.matcher.v3.HttpResponseHeaderMatchInput", header_name="location")
    absolute = {"input": {"name": "location", "typed_config": location}, "value_match": {"prefix": "http"}}
    skip = typed("envoy.extensions.filters.common.matcher.action.v3.SkipFilter")
    matcher = {
        "predicate": {"not_matcher": {"single_predicate": absolute}},
        "on_match": {"action": {"name": "skip", "typed_config": skip}},
    }
    config = typed(
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        extension_config=filter_,
        xds_matcher={"matcher_list": {"matchers": [matcher]}},
    )
    return {"name": filter_["name"], "typed_config": config}


def _overwrite(headers: Mapping[str, str]) -> Json:
    mutations: list[Json] = [
        {"append": {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
        for key, value in headers.items()
    ]
    # Nobody but the normaliser says what is captured.
    mutations.append({"remove": WATCH_HEADER})
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation", mutations=mutations
        ),
    }


def _access_log(path: Path, line: str) -> Json:
    config = typed(
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=str(path),
        log_format={"text_format_source": {"inline_string": line}},
    )
    return {"name": "envoy.access_loggers.file", "typed_config": config}


def _watched(path: Path) -> Json:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _address(port: int) -> Json:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
