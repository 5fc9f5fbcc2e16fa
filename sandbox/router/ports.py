"""Ports on loopback that are ours from before Envoy binds them.

The kernel picks each port while all others are still held, so no two callers on this machine get the same one. A held
socket is bound but never listens: it takes no connection. Where the kernel lets another socket bind beside such a one
(`SO_REUSEADDR`, which Envoy sets as well) it is kept until Envoy listens; elsewhere it is closed just before.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from tasks.errors import SandboxError

LOOPBACK: Final = "127.0.0.1"
_SHARED: Final = sys.platform == "linux"


@contextmanager
def fresh(count: int) -> Iterator[tuple[int, ...]]:
    """`count` free ports, held until the block ends."""
    with _held([0] * count) as ports:
        yield ports


@contextmanager
def again(ports: Iterable[int]) -> Iterator[None]:
    """Hold exactly these ports. SandboxError names the first one that somebody else has taken."""
    with _held(ports):
        yield


@contextmanager
def _held(wanted: Iterable[int]) -> Iterator[tuple[int, ...]]:
    sockets: list[socket.socket] = []
    try:
        sockets.extend(_bound(port) for port in wanted)
        numbers = tuple(held.getsockname()[1] for held in sockets)
        if not _SHARED:
            _close(sockets)
        yield numbers
    finally:
        _close(sockets)


def _bound(port: int) -> socket.socket:
    held: socket.socket | None = None
    try:
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # Lets a port be bound again whose old connections are still in TIME_WAIT; a listener there still refuses.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((LOOPBACK, port))
    except OSError as error:
        if held is not None:
            held.close()
        if error.errno == errno.EMFILE:
            raise SandboxError(
                "the router needs more open files than this process may have",
                hint="raise the limit with `ulimit -n`, or run fewer sandboxes at once",
            ) from error
        if not port:
            raise SandboxError(
                f"no port of {LOOPBACK} is free any more: each sandbox has one for every service",
                hint="delete sandboxes that are not needed, or run fewer at once",
            ) from error
        raise SandboxError(
            f"port {port} on {LOOPBACK} cannot be bound: {error.strerror}",
            hint="another program has taken it; stop that program, or bring the baseline down and up again",
        ) from error
    return held


def _close(sockets: list[socket.socket]) -> None:
    while sockets:
        sockets.pop().close()
