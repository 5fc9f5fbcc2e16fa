"""One line of the records file: the format that Envoy writes and `sandbox.router.records` reads, in one place.

Plain text, which costs Envoy less than JSON. What holds: the separator is a control character that
Envoy refuses in the method, the path and every header, so no client can shift the fields of a line; what a client
has a say in comes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sandbox.router.routes import METADATA, RECORD

_SEPARATOR: Final = "\x1f"
_ABSENT: Final = "-"
_MARK: Final = "mark"
_OPERATORS: Final[Mapping[str, str]] = {
    "started_s": "%START_TIME(%s.%9f)%",
    "took_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "took_ms": "%DURATION%",
    "record": f"%DYNAMIC_METADATA({METADATA}:{RECORD})%",
    "upstream": "%UPSTREAM_HOST%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "flags": "%RESPONSE_FLAGS%",
    "connection": "%CONNECTION_ID%",
    "kind": "%ACCESS_LOG_TYPE%",
    "traceparent": "%REQ(TRACEPARENT):55%",
    "method": "%REQ(:METHOD):20%",
    "path": "%REQ(:PATH):2000%",
}
_NAMES: Final = ("pair", *_OPERATORS)


def hop_format(pair: int) -> str:
    """The format of a hop's line, for the listener of a calling pair."""
    return _SEPARATOR.join([str(pair), *_OPERATORS.values()]) + "\n"


def mark_format() -> str:
    """The format of a mark's line; the last segment of the path is the mark."""
    return f"{_MARK}{_SEPARATOR}%REQ(:PATH)%\n"


def fields(line: bytes) -> dict[str, str]:
    """The fields of a line by name; what is absent is an empty text. A mark has the one field `mark`.

    Raises ValueError where it is neither.
    """
    first, *values = line.decode(errors="replace").split(_SEPARATOR)
    if first == _MARK and len(values) == 1:
        return {_MARK: values[0].rpartition("/")[2]}
    named = zip(_NAMES, (first, *values), strict=True)
    return {name: "" if value == _ABSENT else value for name, value in named}
