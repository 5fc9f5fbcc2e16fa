"""Ports for the processes of the baseline and of forks.

They come from below the kernel's ephemeral range, so that no outgoing connection takes one between its choice and
the process's own `bind`. A port is handed out once and not again before it was given back; until it is let go of for
the process that is to have it, nobody else can bind it.

Nor does another driver of this machine hand it out meanwhile: a service that is slow to bind would find its port taken,
or worse, somebody else's service would answer for it and be judged. So drivers share the range by blocks. Who has bound
the first port of a block has all of it, for as long as its process lives.
"""

from __future__ import annotations

import errno
import secrets
import socket
from collections import deque
from typing import Final

from tasks.errors import SandboxError

FIRST_PORT: Final = 20000
LAST_PORT: Final = 29999
BLOCK: Final = 100


class PortPool:
    """Free ports: the one that was given back longest ago comes first. `close` lets go of all."""

    def __init__(self, first: int = FIRST_PORT, last: int = LAST_PORT) -> None:
        self._first, self._last = first, last
        count = -(-(last - first + 1) // BLOCK)
        begin = secrets.randbelow(count)
        self._blocks = deque(first + BLOCK * ((begin + number) % count) for number in range(count))
        """The first ports of those that are not ours."""
        self._locks: list[socket.socket] = []
        self._free: deque[int] = deque()
        self._held: dict[int, socket.socket] = {}
        """By port that was taken and not yet let go of."""

    def take(self) -> int:
        """A port that nobody listens on; SandboxError when all are taken."""
        while True:
            for _ in range(len(self._free)):
                port = self._free.popleft()
                if (held := _bound_everywhere(port)) is not None:
                    self._held[port] = held
                    return port
                # Somebody listens there who asked nobody.
                self._free.append(port)
            if not self._grow():
                raise SandboxError(
                    f"no free port between {self._first} and {self._last}",
                    hint="delete sandboxes that are not needed, or `spurline sandbox gc`",
                )

    def let_go(self, port: int) -> None:
        """Let the process that is to have the port bind it."""
        if (held := self._held.pop(port, None)) is not None:
            held.close()

    def give_back(self, port: int) -> None:
        self.let_go(port)
        self._free.append(port)

    def close(self) -> None:
        """Other drivers may have the ports from now on."""
        while self._locks:
            self._locks.pop().close()
        for port in tuple(self._held):
            self.let_go(port)
        self._free.clear()

    def _grow(self) -> bool:
        """Get one more block; whether there was one."""
        for _ in range(len(self._blocks)):
            first = self._blocks.popleft()
            if (lock := _bound(first)) is not None:
                self._locks.append(lock)
                self._free.extendleft(range(min(first + BLOCK - 1, self._last), first, -1))
                return True
            self._blocks.append(first)
        return False


def is_listened_on(port: int) -> bool:
    """Whether somebody listens on the port, on whatever address. Connections that have ended do not count."""
    families = [(socket.AF_INET, ""), *([(socket.AF_INET6, "::")] if socket.has_ipv6 else [])]
    return any(_is_refused(family, host, port) for family, host in families)


def _is_refused(family: socket.AddressFamily, host: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _bound(port: int) -> socket.socket | None:
    """A socket that holds the port on every address, without the leave of SO_REUSEADDR; None where it is taken."""
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        held.bind(("", port))
    except OSError:
        held.close()
        return None
    return held


def _bound_everywhere(port: int) -> socket.socket | None:
    """A socket that holds the port; None where it cannot be bound on every address, IPv6's too."""
    if (held := _bound(port)) is None or not socket.has_ipv6:
        return held
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(("::", port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:  # no IPv6 here is no obstacle
            held.close()
            return None
    return held
