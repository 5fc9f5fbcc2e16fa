"""The gRPC health check (`grpc.health.v1.Health/Check`, grpc/doc/health-checking.md), asked by hand.

One fixed request in HTTP/2 frames (RFC 9113) whose header block needs no state (RFC 7541: literal fields, no
Huffman), so that a probe needs no gRPC library. Of the answer only the data frame matters: a message
`HealthCheckResponse{status: SERVING}` is the bytes `08 01`.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_SERVING: Final = b"\x00\x00\x00\x00\x02\x08\x01"
_FIELDS: Final = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/grpc.health.v1.Health/Check"),
    (":authority", "127.0.0.1"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _request() -> bytes:
    block = b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in _FIELDS
    )
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0)
        + _frame(_HEADERS, _END_HEADERS, 1, block)
        + _frame(_DATA, _END_STREAM, 1, b"\x00\x00\x00\x00\x00")
    )


async def is_serving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether the server at the other end says SERVING for the whole server (service name empty)."""
    writer.write(_request())
    await writer.drain()
    answer = b""
    while True:
        head = await reader.readexactly(9)
        length = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _DATA and stream == 1:
            answer += payload
        if kind in (_RST, _GOAWAY):
            return False
        if answer == _SERVING:
            return True
        if stream == 1 and kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            return False
