"""Which exchanges Envoy captures: failing ones of keyed requests, with capped bodies, one file each.

The tap copies up to the cap of each body as it passes and holds nothing back, so streams stay streams.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sandbox.exchanges import BODY_LIMIT_BYTES
from sandbox.router.routes import Json, typed

_FAILED_STATUS: Final[Json] = {"name": ":status", "string_match": {"safe_regex": {"regex": "[45].."}}}
_FAILED_GRPC: Final[Json] = {"name": "grpc-status", "string_match": {"safe_regex": {"regex": "[1-9][0-9]*"}}}
_KEYED: Final[Json] = {"name": "x-spurline-key", "present_match": True}


def tap_filter(folder: Path, pair: int) -> Json:
    """The HTTP filter; its files are named `<pair>_<number>.json` in `folder`."""
    failed = [
        {"http_response_headers_match": {"headers": [_FAILED_STATUS]}},
        {"http_response_headers_match": {"headers": [_FAILED_GRPC]}},
        {"http_response_trailers_match": {"headers": [_FAILED_GRPC]}},
    ]
    rules = [{"http_request_headers_match": {"headers": [_KEYED]}}, {"or_match": {"rules": failed}}]
    sink = {"format": "JSON_BODY_AS_BYTES", "file_per_tap": {"path_prefix": str(folder / str(pair))}}
    config = typed(
        "envoy.extensions.filters.http.tap.v3.Tap",
        common_config={
            "static_config": {
                "match": {"and_match": {"rules": rules}},
                "output_config": {
                    "sinks": [sink],
                    "max_buffered_rx_bytes": BODY_LIMIT_BYTES + 4,
                    "max_buffered_tx_bytes": BODY_LIMIT_BYTES + 4,
                },
            }
        },
        record_headers_received_time=True,
    )
    return {"name": "envoy.filters.http.tap", "typed_config": config}
