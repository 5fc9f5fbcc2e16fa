"""Ports for the processes of the baseline and of forks.

They come from below the kernel's ephemeral range, so that no outgoing connection takes one between its choice and
the process's own `bind`. A port is handed out once and not again before it was given back.
"""

from __future__ import annotations

import errno
import secrets
import socket
from typing import Final

from tasks.errors import SandboxError

FIRST_PORT: Final = 20000
LAST_PORT: Final = 29999


class PortPool:
    """Free ports, walked round from a random place so that two drivers of one machine rarely meet."""

    def __init__(self, first: int = FIRST_PORT, last: int = LAST_PORT) -> None:
        self._first, self._size = first, last - first + 1
        self._next = secrets.randbelow(self._size)
        self._taken: set[int] = set()

    def take(self) -> int:
        """A port that nobody listens on; SandboxError when all are taken."""
        for _ in range(self._size):
            port = self._first + self._next
            self._next = (self._next + 1) % self._size
            if port not in self._taken and _is_free(port):
                self._taken.add(port)
                return port
        raise SandboxError(
            f"no free port between {self._first} and {self._first + self._size - 1}",
            hint="delete sandboxes that are not needed, or `spurline sandbox gc`",
        )

    def give_back(self, port: int) -> None:
        self._taken.discard(port)


def _is_free(port: int) -> bool:
    """Whether `port` can be bound on every address, without the leave that SO_REUSEADDR gives."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    if not socket.has_ipv6:
        return True
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(("::", port))
    except OSError as error:
        return error.errno != errno.EADDRINUSE  # no IPv6 here is no obstacle
    return True
