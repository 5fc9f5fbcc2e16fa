"""The contract of a driver, and the values that pass through it.

A driver runs one baseline and any number of sandboxes beside it. What every driver must do, failure by failure:

* A failed command is a result; a failed sandbox is an exception. A sandbox is never replaced silently: after its
  lease ran out every call on its name raises `SandboxGone`, until it is created anew, with a new key.
* `up` returns when every service is ready, or raises `BaselineError` that names the service and shows its last log
  lines. Called again with the same system and commit it returns the running baseline; with another one it raises.
  While it is under way `starts` tells how far each service has got; before and after it tells nothing.
* `create` makes a sandbox and forks what `sources` names, if anything; the rest is served by the baseline. When it
  returns every fork is ready and serves its key; when it raises there is no sandbox and nothing of it is left. Until
  then `list` names it, without forks and addresses, and every other call on its name but `delete`, which calls it
  off, raises `SandboxGone`. The name is the caller's; a live name raises `SandboxTaken`.
* `fork` changes a sandbox that lives: it starts what is named, waits until all of it is ready, and only then moves
  the routes, all of them at once: either every named service is served by the new generation, or (on `ForkError`)
  none is and the sandbox is as before. No request fails while a fork is updated: the old process stops after the
  route has moved and its requests have drained. The generation of each named service grows by one.
* A fork of a commit runs from a checkout of exactly this commit, which nobody else can write to.
* `renew` moves the end of the lease; a lease that ends takes the forks, the routes, the key and the checkouts along.
* `delete` is idempotent. After it a request with the key is refused with 421.
* `window` waits until every record of requests that ended before the call has arrived. What could not be recorded
  is counted in `dropped`; a driver that cannot know must say 1, not 0.
* `plant` makes the router answer 503 for one service and this key only, `None` takes the fault away.
* `gc` removes what has no owner and nothing else; with `dry_run` it removes nothing, and names exactly what it would
  remove at this moment.
* After `down` nothing is left: no process, port, checkout, temporary file. Whoever dies, the same holds within
  the lease.

All methods may raise `SandboxError` (the driver itself failed). All times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from sandbox.exchanges import Exchange
from sandbox.hops import Hop
from sandbox.keys import RoutingKey
from sandbox.service import System


@dataclass(frozen=True, slots=True)
class Source:
    """What a fork runs: a commit, or (by hand only, never judged) a folder as it stands."""

    commit: str | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        if (self.commit is None) == (self.folder is None):
            raise ValueError("a source is either a commit or a folder")


@dataclass(frozen=True, slots=True)
class Running:
    """One service of the baseline, as it runs."""

    service: str
    address: str
    """`host:port` of the process itself, not of the router."""
    healthy: bool
    pid: int | None
    ready_s: float | None
    """How long its start took, None for a service that ran already."""


@dataclass(frozen=True, slots=True)
class Start:
    """How far one service has got of a baseline that is coming up."""

    service: str
    state: Literal["building", "starting", "awaited", "ready"]
    """In this order; `awaited`: it runs elsewhere, and has not answered yet."""
    took_s: float | None
    """How long it has been in this state; of a ready one how long its start took, None for one that ran already."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The running baseline. `version` is its commit."""

    version: str
    services: Mapping[str, Running]
    urls: Mapping[str, str]
    """Unkeyed URL of each service through the router."""
    lease_ends: float | None
    """When it goes down unless renewed; None: it stays up until `down`."""
    healthy: bool


@dataclass(frozen=True, slots=True)
class Fork:
    """One changed workload inside a sandbox."""

    service: str
    generation: int
    commit: str | None
    """None when it runs a folder."""
    address: str
    pid: int | None
    ready_s: float
    """From the start of the process (build left out) to ready."""
    build_s: float
    alive: bool


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox: its key, its forks, and its keyed ingress for every service."""

    name: str
    key: RoutingKey = field(repr=False)
    forks: Mapping[str, Fork]
    urls: Mapping[str, str]
    """Keyed URL of each service: plain http on loopback, the router adds every carrier of the key."""
    lease_ends: float
    generation: int
    """Grows by one with every call that forked something, `create` with sources being the first."""
    faults: tuple[str, ...] = ()
    """Services that answer 503 for this key at the moment."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the stream of records."""

    at: float
    offset: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Window:
    """What the router recorded between a cursor and now, for one key."""

    since: float
    until: float
    hops: tuple[Hop, ...]
    """Hops with the key, in the order in which they began."""
    strays: tuple[Hop, ...]
    """Hops with no key at all, or refused for one that nobody has, of any caller: where a lost key shows."""
    exchanges: tuple[Exchange, ...]
    """Failing exchanges with the key, oldest first."""
    dropped: int
    """Records that could not be written or read."""
    fine: tuple[Exchange, ...] = ()
    """Of a sandbox without forks: exchanges that went well, oldest first; in a flood not all of them."""


@dataclass(frozen=True, slots=True)
class LogLine:
    at: float
    text: str


class Driver(Protocol):
    """See the module's text for what each method promises."""

    async def up(self, system: System, commit: str, *, lease_s: float | None = None) -> Baseline: ...
    async def starts(self) -> tuple[Start, ...]: ...
    async def baseline(self) -> Baseline | None: ...
    async def hold(self, *, lease_s: float) -> None:
        """See that the baseline stays up for so long at least, where it has a lease. Nobody shortens what another one
        holds."""
        ...

    async def down(self) -> None: ...
    async def create(self, name: str, *, ttl_s: float, sources: Mapping[str, Source] | None = None) -> Sandbox: ...
    async def fork(self, name: str, sources: Mapping[str, Source]) -> Sandbox: ...
    async def renew(self, name: str, *, ttl_s: float) -> Sandbox: ...
    async def get(self, name: str) -> Sandbox: ...
    async def list(self) -> tuple[Sandbox, ...]: ...
    async def delete(self, name: str) -> None: ...
    async def gc(self, *, dry_run: bool = False) -> tuple[str, ...]:
        """Remove what nobody owns any more; the names of what was removed, or (`dry_run`) only would be."""
        ...

    async def cursor(self) -> Cursor: ...
    async def window(self, name: str, since: Cursor) -> Window: ...
    async def logs(self, service: str, *, sandbox: str | None, since: float = 0.0) -> tuple[LogLine, ...]: ...
    async def plant(self, name: str, service: str | None) -> None: ...
    async def aclose(self) -> None:
        """Let go of the driver. What has a lease or was brought up to stay goes on."""
        ...
