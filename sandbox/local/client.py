"""The local driver, seen from any process: its calls go to the keeper's socket, and the keeper is started at need."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import httpx

from sandbox.confinement import scrubbed
from sandbox.driver import Baseline, Cursor, LogLine, Sandbox, Source, Start, Window
from sandbox.filelock import taken
from sandbox.local import wire
from sandbox.local.socketpath import socket_path
from sandbox.service import System
from tasks.errors import SandboxError, StoreError

_START_LIMIT_S: Final = 40.0
_HELLO_LIMIT_S: Final = 5.0
_POLL_S: Final = 0.02
_TAIL_BYTES: Final = 4000

T = TypeVar("T")


class _NoKeeperError(SandboxError):
    """Nobody listens at the socket."""


class _KeeperEnded(SandboxError):
    """It ended before it could answer."""


class KeeperDriver:
    """A `sandbox.driver.Driver` whose work is done by the keeper behind `socket`.

    Closing it lets go of the connections only. When the keeper ends while a call is under way the call raises
    SandboxError: everything that the keeper had started is gone then.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=str(socket), limits=httpx.Limits(max_connections=None, max_keepalive_connections=16)
            ),
            base_url="http://keeper",
            headers={wire.VERSION_HEADER: wire.version()},
            timeout=httpx.Timeout(None, connect=_HELLO_LIMIT_S),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def hello(self) -> wire.Hello | None:
        """Who answers, None if nobody does."""
        try:
            answer = await self._http.get(wire.HELLO, timeout=_HELLO_LIMIT_S)
        except httpx.TransportError:
            return None
        return wire.read_hello(answer.content)

    async def up(self, system: System, commit: str, *, lease_s: float | None = None) -> Baseline:
        return await self._call(wire.UP, wire.Arguments(system=system, commit=commit, lease_s=lease_s))

    async def starts(self) -> tuple[Start, ...]:
        return await self._call(wire.STARTS, wire.Arguments())

    async def baseline(self) -> Baseline | None:
        return await self._call(wire.BASELINE, wire.Arguments())

    async def hold(self, *, lease_s: float) -> None:
        await self._call(wire.HOLD, wire.Arguments(lease_s=lease_s))

    async def down(self) -> None:
        """Take the baseline and all sandboxes down; the keeper itself ends, too. Where it has ended already, or ends as
        it is asked, nothing stays up."""
        with contextlib.suppress(_NoKeeperError, _KeeperEnded):
            await self._call(wire.DOWN, wire.Arguments())

    async def create(self, name: str, *, ttl_s: float, sources: Mapping[str, Source] | None = None) -> Sandbox:
        return await self._call(wire.CREATE, wire.Arguments(name=name, ttl_s=ttl_s, sources=sources))

    async def fork(self, name: str, sources: Mapping[str, Source]) -> Sandbox:
        return await self._call(wire.FORK, wire.Arguments(name=name, sources=sources))

    async def renew(self, name: str, *, ttl_s: float) -> Sandbox:
        return await self._call(wire.RENEW, wire.Arguments(name=name, ttl_s=ttl_s))

    async def get(self, name: str) -> Sandbox:
        return await self._call(wire.GET, wire.Arguments(name=name))

    async def list(self) -> tuple[Sandbox, ...]:
        return await self._call(wire.LIST, wire.Arguments())

    async def delete(self, name: str) -> None:
        await self._call(wire.DELETE, wire.Arguments(name=name))

    async def gc(self, *, dry_run: bool = False) -> tuple[str, ...]:
        return await self._call(wire.GC, wire.Arguments(dry_run=dry_run))

    async def cursor(self) -> Cursor:
        return await self._call(wire.CURSOR, wire.Arguments())

    async def window(self, name: str, since: Cursor) -> Window:
        return await self._call(wire.WINDOW, wire.Arguments(name=name, since=since))

    async def logs(self, service: str, *, sandbox: str | None, since: float = 0.0) -> tuple[LogLine, ...]:
        return await self._call(wire.LOGS, wire.Arguments(service=service, sandbox=sandbox, since=since))

    async def plant(self, name: str, service: str | None) -> None:
        await self._call(wire.PLANT, wire.Arguments(name=name, service=service))

    async def _call(self, call: wire.Call[T], arguments: wire.Arguments) -> T:
        try:
            answer = await self._http.post(wire.CALLS + call.method, content=wire.write_arguments(arguments))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _NoKeeperError(
                f"no keeper answers at {str(self._socket)!r}", hint="`spurline baseline up` starts one"
            ) from error
        except httpx.TransportError as error:
            raise _KeeperEnded(
                f"the keeper ended while {call.method!r} was under way; the baseline and its sandboxes are gone",
                hint="keeper.log in its state folder may say why; `spurline baseline up` starts anew",
            ) from error
        if answer.status_code == httpx.codes.OK:
            return wire.read_result(call, answer.content)
        try:
            fields = answer.json()
        except ValueError:
            raise SandboxError(
                f"the keeper failed at {call.method!r} (HTTP {answer.status_code})", hint="see the keeper's log"
            ) from None
        raise wire.error_of(fields)


async def find_keeper(state: Path) -> KeeperDriver | None:
    """The keeper of this state folder if one answers; none is started."""
    driver = KeeperDriver(socket_path(state))
    if await driver.hello() is not None:
        return driver
    await driver.aclose()
    return None


async def ensure_keeper(repo: Path, state: Path, argv: Sequence[str]) -> KeeperDriver:
    """The keeper of this state folder, started by `argv` where none answers: a detached process of its own session.

    SandboxError with the keeper's last lines when it does not start, or when it keeps another repository;
    StoreError when `state` cannot be written.
    """
    async with _turn(state):
        driver = await find_keeper(state)
        if driver is None:
            driver = await _start(state, argv)
    hello = await driver.hello()
    if hello is not None and Path(hello.repo).resolve() != repo.resolve():
        await driver.aclose()
        raise SandboxError(
            f"the keeper of {str(state)!r} serves {hello.repo!r}, not {str(repo)!r}",
            hint="a state folder belongs to one project; `spurline baseline down` there frees it",
        )
    return driver


async def _start(state: Path, argv: Sequence[str]) -> KeeperDriver:
    log = state / "keeper.log"
    pid = _spawn(argv, log)
    deadline, exit_code = time.monotonic() + _START_LIMIT_S, None
    while time.monotonic() < deadline and exit_code is None:
        driver = await find_keeper(state)
        if driver is not None:
            return driver
        await asyncio.sleep(_POLL_S)
        exit_code = _exit_code(pid)
    if exit_code is None:
        _kill(pid)
    words = log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
    how = "does not answer" if exit_code is None else f"ended with exit code {exit_code}"
    raise SandboxError(f"the keeper {how}: {words or 'it said nothing'}", hint=f"its log is {str(log)!r}")


def _spawn(argv: Sequence[str], log: Path) -> int:
    """Start the keeper in a session of its own; its process id. Not a Popen, which would want to see its end."""
    program = shutil.which(argv[0])
    if program is None:
        raise SandboxError(f"the keeper cannot be started: there is no program {argv[0]!r}", hint="reinstall Spurline")
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawn(
        program,
        list(argv),
        _keeper_environment(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), writing, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _keeper_environment() -> dict[str, str]:
    """No secrets: what the keeper starts is its user's, too, and could read the keeper's own environment."""
    runtime = {name: os.environ[name] for name in ("XDG_RUNTIME_DIR",) if name in os.environ}
    return {**scrubbed(os.environ), **runtime}


def _kill(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _exit_code(pid: int) -> int | None:
    """How our child ended, None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


@asynccontextmanager
async def _turn(state: Path) -> AsyncIterator[None]:
    """One at a time looks for a keeper and starts it, over all processes of this state folder."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(state / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"the state folder {str(state)!r} cannot be used: {error.strerror}",
            hint="it must be a folder that you own and can write to",
        ) from error
    try:
        while not taken(lock):  # noqa: ASYNC110 - the other one is another process
            await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(lock)
