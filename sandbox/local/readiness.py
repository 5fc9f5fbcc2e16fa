"""Whether a service is ready: one probe, and the wait for the first that succeeds.

Waiting is cheap and close: until the port opens a probe is one system call, and the pause before the next one is a
small part of the time waited so far, so that a start is noticed late by that part at most, and a slow one, or one of
many, is not slowed down by being asked; a process that ends is noticed soon and never waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
import time
from typing import Final

from sandbox.local.grpchealth import is_serving
from sandbox.local.logfile import LogFile
from sandbox.local.process import Process
from sandbox.service import Ready

_FIRST_S: Final = 0.01
_PART: Final = 0.02
_LONGEST_S: Final = 0.05
_PROBE_S: Final = 2.0


async def wait_ready(ready: Ready, host: str, port: int, *, process: Process | None, log: LogFile | None) -> bool:
    """Whether it got ready within its own time limit; False as soon as the process has ended."""
    started = time.monotonic()
    await asyncio.sleep(_FIRST_S)
    while (waited_s := time.monotonic() - started) < ready.timeout_s:
        if process is not None and not process.alive:
            return False
        if await is_ready(ready, host, port, log=log):
            return process is None or process.alive
        await asyncio.sleep(min(_PART * waited_s, _LONGEST_S))
    return False


async def is_ready(ready: Ready, host: str, port: int, *, log: LogFile | None) -> bool:
    """One probe, of two seconds at most."""
    if ready.kind == "log":
        return log is not None and re.search(ready.target, log.text(), re.MULTILINE) is not None
    if _is_loopback(host) and not _is_open(host, port):
        return False
    try:
        async with asyncio.timeout(_PROBE_S):
            return await _asked(ready, host, port)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        return False


def shown(ready: Ready, port: int) -> str:
    """The probe, for people."""
    return {
        "http": f"GET {ready.target} on port {port}",
        "tcp": f"a connection to port {port}",
        "grpc": f"the gRPC health service on port {port}",
        "log": f"a log line that matches {ready.target!r}",
    }[ready.kind]


async def _asked(ready: Ready, host: str, port: int) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if ready.kind == "grpc":
            return await is_serving(reader, writer)
        if ready.kind == "http":
            return await _http_ok(reader, writer, f"{host}:{port}", ready.target or "/")
        return True
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _http_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str) -> bool:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: spurline\r\nConnection: close\r\n\r\n".encode())
    status = (await reader.readline()).split()
    return len(status) >= 2 and status[1].isdigit() and 200 <= int(status[1]) < 400


def _is_loopback(host: str) -> bool:
    return host.startswith("127.")


def _is_open(host: str, port: int) -> bool:
    """Whether somebody accepts connections; on loopback the kernel answers within the call."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex((host, port)) == 0:
            return True
        poll = select.poll()
        poll.register(probe, select.POLLOUT)
        return bool(poll.poll(0)) and probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
