"""The screen in browsers: textual-serve's front end and protocol, behind a door of our own.

Whoever sees the screen can do to the run all that its user can, so nothing at all is answered without the token of the
URL. It is exchanged for a cookie with another secret, of a path that nobody can guess: a browser sends a cookie to
every port of a host, and on some of loopback's there are forks, which an agent wrote. For the same reason, and since
SameSite knows no ports either, a socket is opened for pages of this very host and port only. A host must be an address
or a name that is known here, or a page from elsewhere could have its own name mean this machine.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from tasks.errors import UsageError
from tui.served import Served

COOKIE: Final = "spurline"
_MOST: Final = 16
"""Screens at once: each is a process of some 80 MiB."""
_LONGEST: Final = 64 * 1024
"""What a browser may say at once, in bytes; keys and pasted text."""
_CELLS: Final = 1000
_STATIC: Final = Path(str(files("textual_serve"))) / "static"
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Door:
    """The server of one run's screen. Use as an async context manager: at its end no process and no port is left."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], *, host: str = "127.0.0.1", port: int = 0) -> None:
        """`argv` and `env` are those of a browser's process; port 0 is any that is free."""
        self._argv, self._env, self._host, self._port = tuple(argv), dict(env), host, port
        self._token, self._secret = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._below = f"/{secrets.token_hex(8)}/"
        self._names = {"localhost", host.casefold(), socket.gethostname().casefold()}
        self._open: dict[web.WebSocketResponse, Served] = {}
        self._runner: web.AppRunner

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        address = _address(self._host)
        return address.is_loopback if address is not None else self._host == "localhost"

    @property
    def url(self) -> str:
        """Where it is, with the token: whoever has it is let in."""
        address = _address(self._host)
        host = socket.gethostname() if address is not None and address.is_unspecified else self._host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}/?token={self._token}"

    async def __aenter__(self) -> Door:
        """Raises UsageError where it cannot listen."""
        app = web.Application(middlewares=[self._guard], client_max_size=_LONGEST)
        app.add_routes(
            [
                web.get("/", self._enter),
                web.get(self._below, self._page),
                web.get(f"{self._below}served.js", self._script),
                web.get(f"{self._below}ws", self._socket),
                web.static(f"{self._below}static", _STATIC),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise UsageError(
                f"nothing can listen at {self._host}, port {self._port}: {error.strerror}", hint="give another --port"
            ) from None
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        going = [one.close(code=WSCloseCode.GOING_AWAY) for one in self._open]
        await asyncio.gather(*(one.end() for one in self._open.values()), *going, return_exceptions=True)
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in who may come in; say nothing else to anybody else, whatever is asked."""
        if not self._is_ours(request.host):
            raise web.HTTPMisdirectedRequest(text="this is no name of this host\n", headers=_HEADERS)
        if not self._may(request):
            raise web.HTTPForbidden(text="the URL with the token opens the screen\n", headers=_HEADERS)
        try:
            answer = await handler(request)
        except web.HTTPException as answered:
            answered.headers.update(_HEADERS)
            raise
        if not answer.prepared:
            answer.headers.update(_HEADERS)
        return answer

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header can only mean this host: names of others can be made to lead here, addresses cannot."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _address(name) is not None

    def _may(self, request: web.Request) -> bool:
        if request.path == "/":
            return _same(request.query.get("token", ""), self._token)
        return _same(request.cookies.get(COOKIE, ""), self._secret)

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        """Exchange the token for the cookie; the address that stays in the browser's history is without it."""
        answer = web.Response(status=303, headers={"Location": self._below})
        answer.set_cookie(COOKIE, self._secret, path=self._below, httponly=True, samesite="Strict")
        return answer

    async def _page(self, request: web.Request) -> web.StreamResponse:
        page = _ours("served.html").replace("{socket}", f"ws://{request.host}{self._below}ws")
        return web.Response(text=page, content_type="text/html")

    async def _script(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=_ours("served.js"), content_type="text/javascript")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """One browser: a process of its own, for as long as the socket is open."""
        if request.headers.get("Origin") != f"http://{request.host}":
            raise web.HTTPForbidden(text="only the screen's own page opens its socket\n")
        if len(self._open) >= _MOST:
            raise web.HTTPServiceUnavailable(text=f"{_MOST} browsers show the screen already\n")
        answer = web.WebSocketResponse(heartbeat=15, max_msg_size=_LONGEST)
        await answer.prepare(request)
        served = self._open[answer] = Served(self._argv, self._env, answer)
        try:
            await served.begin(_cells(request.query.get("width"), 80), _cells(request.query.get("height"), 24))
            async for message in answer:
                if message.type != WSMsgType.TEXT or not await _heed(served, answer, message.data):
                    await answer.close(code=WSCloseCode.UNSUPPORTED_DATA)
        finally:
            del self._open[answer]
            await served.end()
        return answer


def _ours(name: str) -> str:
    return files("tui").joinpath(name).read_text(encoding="utf-8")


async def _heed(served: Served, answer: web.WebSocketResponse, text: str) -> bool:
    """Do what the browser's page says; False where that is nothing that it can say."""
    try:
        said = json.loads(text)
    except ValueError:
        return False
    match said:
        case ["stdin", str(keys)]:
            await served.send_bytes(keys.encode("utf-8", "replace"))
        case ["resize", {"width": int(width), "height": int(height)}]:
            await served.set_terminal_size(_cells(width, 80), _cells(height, 24))
        case ["ping", str() | int() | float() as sent]:
            await answer.send_json(["pong", sent])
        case ["focus", *_]:
            await served.focus()
        case ["blur", *_]:
            await served.blur()
        case _:
            return False
    return True


def _cells(said: Any, usual: int) -> int:
    """A width or height as a browser says it, within reason."""
    try:
        return max(1, min(_CELLS, int(said)))
    except (TypeError, ValueError):
        return usual


def _same(given: str, wanted: str) -> bool:
    """Whether they are the same, in a time that tells nothing."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
