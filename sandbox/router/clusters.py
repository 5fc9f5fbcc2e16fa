"""Where requests go: one static cluster a service of the baseline, and one for all forks of a protocol.

Forks have no cluster of their own: the normaliser names their address for each request, so a route can never arrive
before its cluster.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sandbox.router.routes import DESTINATION, METADATA, Json, baseline_cluster, forks_cluster, typed
from sandbox.service import Protocol, Service, System
from tasks.errors import SandboxError

_UNLIMITED: Final = 1_000_000
# Shorter than the keep-alive of common servers (gunicorn 2 s, uvicorn and Node 5 s): the router lets go of an idle
# connection before the service does, so no request is sent into a closing one. Nothing is ever retried.
_IDLE: Final = "1.5s"
CASE_KEPT: Final[Json] = {
    "stateful_formatter": {
        "name": "preserve_case",
        "typed_config": typed("envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"),
    }
}


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the baseline's service answers."""

    host: str
    port: int
    tls: bool = False

    @property
    def is_address(self) -> bool:
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or (self.is_address and ipaddress.ip_address(self.host).is_loopback)

    @property
    def authority(self) -> str:
        """As it stands in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def upstream_of(service: Service, addresses: Mapping[str, str]) -> Upstream:
    """The service's own address: what the driver says, else its `url`."""
    text = addresses.get(service.name) or service.url
    if text is None:
        raise SandboxError(f"the router was not told where {service.name!r} runs", hint="this is a fault of the driver")
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        port = parts.port
    except ValueError as error:
        raise SandboxError(f"{text!r} of service {service.name!r} is no address: {error}") from error
    tls = parts.scheme == "https"
    if not parts.hostname or parts.path not in ("", "/"):
        raise SandboxError(
            f"{text!r} of service {service.name!r} cannot be routed to",
            hint="give scheme, host and port only, as in http://127.0.0.1:9000",
        )
    return Upstream(parts.hostname, port or (443 if tls else 80), tls)


def clusters(system: System, upstreams: Mapping[str, Upstream]) -> list[Json]:
    """All clusters: the baseline's by the services' names, then the forks'."""
    found = [_baseline(service, upstreams[name]) for name, service in system.services.items()]
    return [*found, *(_forks(protocol) for protocol in ("http1", "http2"))]


def _baseline(service: Service, upstream: Upstream) -> Json:
    name = baseline_cluster(service.name)
    address = {"socket_address": {"address": upstream.host, "port_value": upstream.port}}
    cluster = _cluster(name, service.protocol) | {
        "type": "STATIC" if upstream.is_address else "STRICT_DNS",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if upstream.tls:
        cluster["transport_socket"] = _tls(upstream)
    return cluster


def _forks(protocol: Protocol) -> Json:
    return _cluster(forks_cluster(protocol), protocol) | {
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {"metadata_key": {"key": METADATA, "path": [{"key": DESTINATION}]}},
    }


def _cluster(name: str, protocol: Protocol) -> Json:
    limits = dict.fromkeys(
        ("max_connections", "max_pending_requests", "max_requests", "max_connection_pools"), _UNLIMITED
    )
    cluster: Json = {
        "name": name,
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{"priority": p, **limits} for p in ("DEFAULT", "HIGH")]},
    }
    if protocol != "tcp":
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _protocol(protocol)
        }
    return cluster


def _protocol(protocol: Protocol) -> Json:
    explicit: Json = (
        {"http2_protocol_options": {"allow_connect": True}}
        if protocol == "http2"
        else {"http_protocol_options": {"header_key_format": CASE_KEPT, "enable_trailers": True}}
    )
    return typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        common_http_protocol_options={"idle_timeout": _IDLE},
        explicit_http_config=explicit,
    )


def _tls(upstream: Upstream) -> Json:
    paths = ssl.get_default_verify_paths()
    bundle = paths.cafile or paths.openssl_cafile
    if not Path(bundle).is_file():
        raise SandboxError(
            f"the certificate of {upstream.host} cannot be checked: there is no bundle of authorities at {bundle}",
            hint="install your system's ca-certificates, or set SSL_CERT_FILE",
        )
    validation = {
        "trusted_ca": {"filename": bundle},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": upstream.host}}],
    }
    return {
        "name": "tls",
        "typed_config": typed(
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            sni=upstream.host,
            common_tls_context={"validation_context": validation},
        ),
    }
