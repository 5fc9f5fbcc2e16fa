"""A PostgreSQL on a file system of its own that can be filled, made without root."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from tests.postgres import FAST, Server, free_port, somebody
from tests.processes import GRACE_S, end

_SIZE_BYTES: Final = 200_000_000
_SERVE: Final = """
cd "$1" && "$2/initdb" -D data -U spurline -A trust -E UTF8 --locale=C --no-sync >&2 &&
exec "$2/postgres" -D data -p "$3" -k "$1" -c listen_addresses=127.0.0.1 $4
"""


@dataclass(frozen=True, slots=True)
class SmallServer:
    """A running server whose disk a test may fill: the server itself does it, since nobody else sees that disk."""

    server: Server

    def fill(self) -> None:
        """Leave nothing free but what the log of transactions has taken already: a server that cannot write that one
        stops altogether, and starts again when there is room."""
        self.server.execute("SELECT pg_switch_wal()")
        self.server.execute("CHECKPOINT")
        self._by_a_program("cat /dev/zero >filler 2>&1 || true")

    def free(self) -> None:
        self._by_a_program("rm -f filler")

    def _by_a_program(self, command: str) -> None:
        self.server.execute(f"COPY (SELECT 1) TO PROGRAM 'cd .. && cat >/dev/null; {command}'")


@contextmanager
def serve_small(bin_folder: Path) -> Iterator[SmallServer | None]:
    """The server; None where nobody may mount a file system."""
    bwrap = shutil.which("bwrap")
    home = Path(tempfile.mkdtemp(prefix="small-postgres-"))
    user, port = somebody(home), free_port()
    box = [str(bwrap), "--dev-bind", "/", "/", "--die-with-parent", "--size", str(_SIZE_BYTES), "--tmpfs", str(home)]
    try:
        if bwrap is None or subprocess.run([*box, "--", "true"], cwd="/", capture_output=True, **user).returncode != 0:
            yield None
            return
        words = [*box, "--", "/bin/sh", "-c", _SERVE, "serve", str(home), str(bin_folder), str(port), FAST]
        with (home.parent / f"{home.name}.log").open("w+") as log:
            process = subprocess.Popen(words, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, **user)
            try:
                server = Server(bin_folder, home, port, user, FAST)
                _until_it_answers(server, process, Path(log.name))
                yield SmallServer(server)
            finally:
                end(process)
    finally:
        (home.parent / f"{home.name}.log").unlink(missing_ok=True)
        shutil.rmtree(home, ignore_errors=True)


def _until_it_answers(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + GRACE_S
    while True:
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return
