"""A PostgreSQL for tests, from the distribution's packages: its own data folder, user and port, and no longer-lived
than the process that started it, however that one ends."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

# The end of its input is the end of the tests. The server may be starting in that very moment: asked more than once.
_WATCH: Final = """
read -r _
for _ in 1 2 3 4; do
  "$1" stop -s -m immediate -D "$2/data" && break
  [ -e "$2/data/postmaster.pid" ] || break
  sleep 0.3
done >/dev/null 2>&1
rm -rf "$2"
"""
FAST: Final = "-c fsync=off -c full_page_writes=off -c max_connections=60 -c shared_buffers=16MB"


def programs() -> Path | None:
    """The folder with `initdb` and `pg_ctl`, the newest of several; None where there is none."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in versions), key=lambda path: float(path.parent.name), default=None)


class Server:
    """One running server. `stop` and `start` as often as a test likes; its databases stay."""

    address = "127.0.0.1"

    def __init__(self, bin_folder: Path, home: Path, port: int, user: dict[str, Any], options: str) -> None:
        self._bin, self._home, self._user, self._options = bin_folder, home, user, options
        self.port = port

    def url(self, database: str, *, port: int | None = None) -> str:
        """Where a database of this server is; at another port, where a test stands between."""
        return f"postgresql+psycopg://spurline@{self.address}:{port or self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -k {self._home} -c listen_addresses={self.address} {self._options}"
        self._run("pg_ctl", "start", "-s", "-w", "-D", "data", "-o", options, "-l", "log")

    def settle(self) -> None:
        """Start at a port that is free: one that was may be somebody else's a moment later."""
        for _ in range(4):
            try:
                return self.start()
            except AssertionError:
                self.port = free_port()
        return self.start()

    def stop(self, mode: str = "immediate") -> None:
        """`immediate` is a crash; `fast` cuts connections, and says so; `smart` waits for them."""
        self._run("pg_ctl", "stop", "-s", "-w", "-m", mode, "-D", "data")

    def initialise(self) -> None:
        self._run("initdb", "-D", "data", "-U", "spurline", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def execute(self, statement: str, database: str = "postgres", *, options: str = "") -> list[tuple[Any, ...]]:
        """What `statement` answers, in a connection of its own."""
        where = f"host={self._home} port={self.port} user=spurline dbname={database}"
        with psycopg.connect(where, options=options, autocommit=True) as c:
            cursor = c.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        log = self._home / "run"
        with log.open("w") as output:
            # A file, not a pipe: the server that pg_ctl leaves behind would hold a pipe open.
            done = subprocess.run(
                self._words(str(self._bin / program), *arguments),
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=100,
                check=False,
                **self._user,
            )
        assert done.returncode == 0, f"{program}: {log.read_text()}"

    def _words(self, *words: str) -> list[str]:
        """How words are run where the server is."""
        return [*words]


@contextmanager
def serve(bin_folder: Path, *, options: str = FAST) -> Iterator[Server]:
    """A server with no databases but its own; as it is, none that would survive a loss of power."""
    home = Path(tempfile.mkdtemp(prefix="spurline-postgres-"))
    user = somebody(home)
    watch = subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, "watch", str(bin_folder / "pg_ctl"), str(home)],
        cwd="/",
        stdin=subprocess.PIPE,
        start_new_session=True,
        **user,
    )
    try:
        server = Server(bin_folder, home, free_port(), user, options)
        server.initialise()
        server.settle()
        yield server
    finally:
        assert watch.stdin is not None
        watch.stdin.close()
        watch.wait(60)
        shutil.rmtree(home, ignore_errors=True)


def somebody(home: Path) -> dict[str, Any]:
    """Whom to run as: `initdb` refuses root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(home, found.pw_uid, found.pw_gid)
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise AssertionError("there is nobody but root to run PostgreSQL as")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
