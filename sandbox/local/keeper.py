"""The keeper: one local driver, served over a Unix socket to every command and run on the same state folder.

So a baseline outlives the command that brought it up, is shared, and leases are kept when a run was killed. The socket
is for its user only. The keeper ends when it was told `down`, on SIGTERM and SIGINT, and when it has had
nothing to keep for a while; whatever ends it, nothing that it started stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.local import wire
from sandbox.local.driver import LocalDriver
from sandbox.local.environment import OWNER_VARIABLE
from sandbox.local.socketpath import private_folder, socket_path
from tasks.errors import SandboxError, SpurlineError, disk_is_full

IDLE_LIMIT_S: Final = 30.0
_TICK_S: Final = 0.2
_LAST_ANSWERS_S: Final = 5
_KEEP_ALIVE_S: Final = 24 * 3600
"""Clients close idle connections, never the keeper: it would look as if it had ended under a call."""
_PATIENCE_S: Final = 15.0
"""How long a keeper that is ending may take until its successor gives up."""

_FOR_THE_CALLER: Final[tuple[wire.Call[Any], ...]] = (wire.UP, wire.CREATE, wire.FORK)
"""The calls that take long and are of no use when nobody waits for them any more."""

Handler = Callable[[Request], Awaitable[Response]]


class _CallerGone(Exception):
    """Who asked does not wait any more."""


@dataclass(slots=True)
class _Occupation:
    """What keeps the keeper up: calls under way, and how long ago the last one ended."""

    driver: LocalDriver
    calls: int = 0
    idle_since: float = field(default_factory=time.monotonic)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def call(self) -> Iterator[None]:
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1
            self.idle_since = time.monotonic()

    async def until_over(self, idle_limit_s: float, socket_file: Path) -> None:
        """Return when told to, when there has been nothing to do for the limit, or when the socket file was removed:
        nobody could ever end us then."""
        ours = _identity(socket_file)
        while not self.over.is_set() and _identity(socket_file) == ours:
            if self.calls or not self.driver.is_idle:
                self.idle_since = time.monotonic()
            if time.monotonic() - self.idle_since > idle_limit_s:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), _TICK_S)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies there, None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def serve(repo: Path, state: Path, *, idle_limit_s: float = IDLE_LIMIT_S) -> None:
    """Be the keeper of `state` until there is a reason to end. Raises what opening a LocalDriver raises; SandboxError,
    among it, where another keeper is there already."""
    owner = secrets.token_hex(8)
    # The router is started without an environment of ours: what it inherits must name its owner, too.
    os.environ[OWNER_VARIABLE] = owner
    async with LocalDriver(repo, state, owner=owner, patience_s=_PATIENCE_S) as driver:
        occupation = _Occupation(driver)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, occupation.over.set)
        path = socket_path(state)
        async with _listening(_application(occupation, repo, state), path):
            await occupation.until_over(idle_limit_s, path)


@asynccontextmanager
async def _listening(app: Starlette, path: Path) -> AsyncIterator[None]:
    """Serve `app` on a socket file for this user only; answers under way are finished at the end."""
    private_folder(path)
    path.unlink(missing_ok=True)  # we hold the folder's lock: whoever bound it before is dead
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        ours = _identity(path)
        listener.listen(1024)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_LAST_ANSWERS_S,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="keeper's socket")
        try:
            yield
        finally:
            if _identity(path) == ours:
                path.unlink()
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: signals end the keeper, not only its socket."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _application(occupation: _Occupation, repo: Path, state: Path) -> Starlette:
    hello = wire.write_hello(wire.Hello(version=wire.version(), pid=os.getpid(), repo=str(repo)))

    async def say_hello(request: Request) -> Response:
        with occupation.call():
            return Response(hello, media_type="application/json")

    routes = [Route(wire.HELLO, say_hello)]
    routes += [
        Route(wire.CALLS + call.method, _handler(call, occupation, state), methods=["POST"]) for call in wire.ALL_CALLS
    ]
    return Starlette(routes=routes)


def _handler(call: wire.Call[Any], occupation: _Occupation, state: Path) -> Handler:
    method = getattr(occupation.driver, call.method)

    async def handle(request: Request) -> Response:
        with occupation.call():
            try:
                _must_be_ours(call, request)
                work = method(**wire.read_arguments(call, await request.body()))
                result = await (_while_wanted(work, request) if call in _FOR_THE_CALLER else work)
            except _CallerGone:
                return Response(status_code=499)
            except SpurlineError as error:
                return _refusal(error)
            except OSError as error:
                if not disk_is_full(error):
                    raise
                place = error.filename or state
                return _refusal(
                    SandboxError(f"{call.method!r} failed: the disk of {str(place)!r} is full", hint="free some space")
                )
            if call is wire.DOWN:
                occupation.over.set()
            return Response(wire.write_result(call, result), media_type="application/json")

    return handle


def _refusal(error: SpurlineError) -> Response:
    return Response(json.dumps(wire.error_fields(error)), status_code=500, media_type="application/json")


async def _while_wanted(work: Coroutine[Any, Any, Any], request: Request) -> Any:
    """The result of `work`, which is cancelled when its caller has gone: _CallerGone then."""
    task = asyncio.create_task(work)
    # The body has been read, so that the next thing to come is that the client is no longer there.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _CallerGone
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.wait([task, gone])


def _must_be_ours(call: wire.Call[Any], request: Request) -> None:
    theirs = request.headers.get(wire.VERSION_HEADER, "")
    if theirs != wire.version() and call.method not in wire.OTHER_VERSIONS_MAY:
        raise SandboxError(
            f"the baseline's keeper is Spurline {wire.version()}, and this is Spurline {theirs or 'of no version'}",
            hint="`spurline baseline down` ends it, with its sandboxes; then bring the baseline up anew",
        )
