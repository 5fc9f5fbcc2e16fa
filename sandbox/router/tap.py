"""Which exchanges Envoy captures: failing ones, and those that the normaliser wants to be watched, with capped bodies,
one file each. Requests without a carrier of a key skip the filter (see `sandbox.router.routes`).

The tap copies up to the cap of each body as it passes and holds nothing back, so streams stay streams.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sandbox.exchanges import BODY_LIMIT_BYTES
from sandbox.router.routes import TAP_FILTER, WATCH_HEADER, Json, typed

_FAILED_STATUS: Final[Json] = {"name": ":status", "string_match": {"safe_regex": {"regex": "[45].."}}}
_FAILED_GRPC: Final[Json] = {"name": "grpc-status", "string_match": {"safe_regex": {"regex": "[1-9][0-9]*"}}}


def tap_filter(folder: Path, pair: int) -> Json:
    """The HTTP filter; its files are named `<pair>_<number>.json` in `folder`."""
    captured = [
        {"http_request_headers_match": {"headers": [{"name": WATCH_HEADER, "present_match": True}]}},
        {"http_response_headers_match": {"headers": [_FAILED_STATUS]}},
        {"http_response_headers_match": {"headers": [_FAILED_GRPC]}},
        {"http_response_trailers_match": {"headers": [_FAILED_GRPC]}},
    ]
    sink = {"format": "JSON_BODY_AS_BYTES", "file_per_tap": {"path_prefix": str(folder / str(pair))}}
    config = typed(
        "envoy.extensions.filters.http.tap.v3.Tap",
        common_config={
            "static_config": {
                "match": {"or_match": {"rules": captured}},
                "output_config": {
                    "sinks": [sink],
                    "max_buffered_rx_bytes": BODY_LIMIT_BYTES + 4,
                    "max_buffered_tx_bytes": BODY_LIMIT_BYTES + 4,
                },
            }
        },
        record_headers_received_time=True,
    )
    return {"name": TAP_FILTER, "typed_config": config}
