"""The process behind one browser: the screen, which speaks textual-serve's protocol on its standard streams."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from aiohttp import web
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

_PATIENCE_S: Final = 5.0


class Served(AppService):
    """One such process, from `begin` to `end`. It has the environment that it is given and no more, and it is in a
    session of its own: a Ctrl-C is for the server, which ends it."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], socket: web.WebSocketResponse) -> None:
        async def close() -> None:
            await socket.close()

        super().__init__(
            argv[0],
            write_bytes=socket.send_bytes,
            write_str=socket.send_str,
            close=close,
            download_manager=DownloadManager(),
        )
        self._argv, self._env = tuple(argv), dict(env)
        self._ended = False

    async def begin(self, width: int, height: int) -> None:
        await self.start(width, height)

    async def end(self) -> None:
        """Ask it to end, and see that it does. Idempotent."""
        if self._ended or self._process is None:
            return
        self._ended = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stop(), _PATIENCE_S)
        await _gone(self._process)

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        return {
            **self._env,
            "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver",
            "TEXTUAL_COLOR_SYSTEM": "truecolor",
            "COLUMNS": str(width),
            "ROWS": str(height),
        }

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        self._process = process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=self._build_environment(width, height),
            start_new_session=True,
        )
        self._stdin = process.stdin
        return process

    async def on_meta(self, data: bytes) -> None:
        """Of what the screen asks of the browser, only its end and to open a web page is passed on: there are no files
        to be had."""
        said = json.loads(data)
        opens = said.get("type") == "open_url" and str(said.get("url")).startswith(("http://", "https://"))
        if opens or said.get("type") == "exit":
            await super().on_meta(data)


async def _gone(process: Process) -> None:
    for ask in (process.terminate, process.kill):
        try:
            await asyncio.wait_for(process.wait(), _PATIENCE_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                ask()
    await process.wait()
