"""What changes while the router runs: the table of keys, as the metadata of the one route that all listeners share.

The normaliser reads the table by exact name, so a request costs the same with one key as with a thousand, and an
update is one small file that Envoy re-reads whole: there is no cluster, virtual host or matcher a key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sandbox.router.table import KeyRoutes

ROUTE_NAME: Final = "keys"
VERSION_ENTRY: Final = "@version"
CLUSTER_HEADER: Final = "x-spurline-cluster"
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


def entries(table: Sequence[KeyRoutes], numbers: Mapping[str, int]) -> dict[str, str]:
    """The table as the normaliser reads it; `numbers` gives each service its number.

    `key` -> `b`, the key is known; `key.N` -> `ip:port generation`, or `x` for a planted fault; `@slot` -> key.
    """
    found: dict[str, str] = {}
    for routes in table:
        found[routes.key] = "b"
        for service, target in routes.forks.items():
            found[f"{routes.key}.{numbers[service]}"] = f"{target.address} {target.generation}"
        for service in routes.faults:
            found[f"{routes.key}.{numbers[service]}"] = "x"
        if routes.slot is not None:
            found[f"@{routes.slot}"] = routes.key
    return found


def route_file(table: Mapping[str, str], version: str) -> str:
    """The whole RDS file. The route's time-outs are off: a stream may stay open for as long as it likes."""
    route = {
        "name": ROUTE_NAME,
        "match": {"prefix": "/"},
        "route": {"cluster_header": CLUSTER_HEADER, "timeout": "0s"},
        "metadata": {"filter_metadata": {"envoy.filters.http.lua": {VERSION_ENTRY: version, **table}}},
    }
    configuration = typed(
        "envoy.config.route.v3.RouteConfiguration",
        name=ROUTE_NAME,
        virtual_hosts=[{"name": ROUTE_NAME, "domains": ["*"], "routes": [route]}],
        request_headers_to_remove=[CLUSTER_HEADER],
    )
    return json.dumps({"version_info": version, "resources": [configuration]}, separators=(",", ":"))


def replace(path: Path, text: str) -> None:
    """Put `text` at `path` in one step: Envoy watches for the rename and never sees half a file."""
    beside = path.with_name(path.name + ".new")
    beside.touch(mode=0o600)
    beside.write_text(text)
    beside.rename(path)
