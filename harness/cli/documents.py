"""The JSON shapes of baseline, sandbox, hop and exchange, and how moments are said. Pure.

Routing keys are masked unless somebody asked for them in so many words.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sandbox.driver import Baseline, Fork, Sandbox
from sandbox.exchanges import Exchange
from sandbox.hops import Hop
from sandbox.keys import masked


def clock(at: float) -> str:
    """A moment as local time with milliseconds: what log lines begin with."""
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03d}"


def baseline_document(baseline: Baseline, ages: Mapping[str, float]) -> dict[str, Any]:
    """`ages` are seconds since each service's process started."""
    return {
        "up": True,
        "healthy": baseline.healthy,
        "version": baseline.version,
        "lease_ends": baseline.lease_ends,
        "uptime_s": round(max(ages.values()), 1) if ages else None,
        "services": [
            {
                "service": name,
                "healthy": running.healthy,
                "url": baseline.urls.get(name),
                "address": running.address,
                "pid": running.pid,
                "ready_s": running.ready_s,
                "uptime_s": round(ages[name], 1) if name in ages else None,
            }
            for name, running in baseline.services.items()
        ],
    }


def sandbox_document(sandbox: Sandbox, entry: str, *, show_key: bool = False) -> dict[str, Any]:
    """`url` is the keyed ingress of the entry."""
    return {
        "sandbox": sandbox.name,
        "key": sandbox.key if show_key else masked(sandbox.key),
        "generation": sandbox.generation,
        "lease_ends": sandbox.lease_ends,
        "url": sandbox.urls.get(entry),
        "urls": dict(sandbox.urls),
        "forks": [fork_document(fork) for fork in sandbox.forks.values()],
        "faults": list(sandbox.faults),
    }


def fork_document(fork: Fork) -> dict[str, Any]:
    """`commit` is None for a fork that runs a folder and is never judged."""
    return {
        "service": fork.service,
        "generation": fork.generation,
        "commit": fork.commit,
        "judged": fork.commit is not None,
        "alive": fork.alive,
        "address": fork.address,
        "pid": fork.pid,
        "ready_s": fork.ready_s,
        "build_s": fork.build_s,
    }


def hop_document(hop: Hop) -> dict[str, Any]:
    return {
        "at": hop.at,
        "duration_ms": hop.duration_ms,
        "caller": hop.caller,
        "service": hop.service,
        "served_by": hop.served_by,
        "generation": hop.generation,
        "upstream": hop.upstream,
        "method": hop.method,
        "path": hop.path,
        "status": hop.status,
        "grpc_status": hop.grpc_status,
        "key": masked(hop.key) if hop.key else None,
        "carriers": list(hop.carriers),
        "trace_id": _masked_trace(hop.trace_id, hop.key),
        "flags": hop.flags,
    }


def exchange_document(exchange: Exchange) -> dict[str, Any]:
    return {
        "at": exchange.at,
        "caller": exchange.caller,
        "service": exchange.service,
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status,
        "grpc_status": exchange.grpc_status,
        "request": {"headers": dict(exchange.request_headers), "body": exchange.request_body},
        "response": {"headers": dict(exchange.response_headers), "body": exchange.response_body},
        "truncated": exchange.truncated,
    }


def _masked_trace(trace_id: str | None, key: str | None) -> str | None:
    """A trace id that carries the key would give it away."""
    return trace_id.replace(key, masked(key)) if trace_id and key else trace_id
