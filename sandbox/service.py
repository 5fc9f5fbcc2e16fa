"""What a service of the system is, and how it is started: frozen values, no I/O.

Placeholders in `command` and `env` are `${port}` (the service's own), and `${url:S}`, `${host:S}`, `${port:S}`
of another service S through the router. Which neighbours a service has follows from them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Protocol = Literal["http1", "http2", "tcp"]
ReadyKind = Literal["http", "tcp", "grpc", "log"]
CLIENT: Final = "client"
"""The caller of requests that come from outside the system, through an ingress."""

PLACEHOLDER: Final = re.compile(r"\$\{(?:(url|host|port):([A-Za-z0-9._-]+)|(port))\}")

_ALMOST: Final = re.compile(r"\$\{\s*([A-Za-z_]+)\s*:([^{}]*)\}?")
_FORMS: Final = ("url", "host", "port")


@dataclass(frozen=True, slots=True)
class Ready:
    """How to tell that a service is ready: an HTTP path that answers 2xx or 3xx, an open TCP port, the gRPC health
    service, or a line of its log that a regular expression finds."""

    kind: ReadyKind = "tcp"
    target: str = ""
    """The path for `http`, the expression for `log`, else empty."""
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the system. Paths are relative to the repository's root."""

    name: str
    cwd: str = "."
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    build: str | None = None
    link: tuple[str, ...] = ()
    confine: bool = True
    """Whether forks of it, and their builds, run in a cage where one can be made; the baseline never does."""
    protocol: Protocol = "http1"
    ready: Ready = Ready()
    url: str | None = None
    """Set when it runs already and is only routed to: it is never started and cannot be forked."""

    @property
    def neighbours(self) -> frozenset[str]:
        """The services that this one's command and environment name."""
        texts = (*self.command, *self.env.values())
        return frozenset(match[2] for text in texts for match in PLACEHOLDER.finditer(text) if match[2])

    def owns(self, path: str) -> bool:
        """Whether a change to `path` (posix, relative to the root) changes this service."""
        return self.url is None and any(lies_below(path, root) for root in (self.cwd, *self.shared))


@dataclass(frozen=True, slots=True)
class System:
    """All services, the entry, and what the router is to do with keys."""

    project: str
    entry: str
    services: Mapping[str, Service]
    carriers: tuple[str, ...] = ()
    """Further headers that carry the key, after `x-spurline-key`, `baggage`, `tracestate` and the trace id."""
    unknown_key: Literal["refuse", "baseline"] = "refuse"

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every calling pair (caller, service), the outside's first: each gets a listener of its own."""
        for name in self.services:
            yield CLIENT, name
        for name, service in self.services.items():
            for neighbour in sorted(service.neighbours):
                yield name, neighbour

    def owners(self, path: str) -> frozenset[str]:
        """The services that a change to `path` changes."""
        return frozenset(name for name, service in self.services.items() if service.owns(path))


def fill(text: str, address: Callable[[str], tuple[str, int]], own_port: int) -> str:
    """`text` with its placeholders filled; `address` gives host and port of a neighbour through the router."""

    def value(match: re.Match[str]) -> str:
        form, neighbour = match[1], match[2]
        if neighbour is None:
            return str(own_port)
        host, port = address(neighbour)
        return {"url": f"http://{host}:{port}", "host": host, "port": str(port)}[form]

    return PLACEHOLDER.sub(value, text)


def misnamed(text: str, services: Container[str]) -> str | None:
    """The first placeholder in `text` that is misspelt or names none of `services`, as it stands there."""
    for match in _ALMOST.finditer(text):
        proper = PLACEHOLDER.fullmatch(match[0])
        if proper is not None and proper[2] in services:
            continue
        # `${HOME:-/root}` and the like are the shell's own.
        if match[1] in _FORMS or match[2].strip() in services:
            return match[0]
    return None


def lies_below(path: str, root: str) -> bool:
    """Whether `path` is the folder `root` or lies in it; both posix, relative to the project's root."""
    root = root.strip("/").removeprefix("./")
    return root in ("", ".") or path == root or path.startswith(root + "/")
