"""Two machines on one network, made of Linux namespaces, and between them a PostgreSQL that wants a password.

Each machine has its own name, processes, loopback, address, /tmp, /run and home, and its own clone of the repository;
of the other one it sees nothing. All of it ends with the processes that hold the namespaces, and those with the tests.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.chaos.stage import Stage
from tests.chaos.stores import OnServer
from tests.chaos.stories import make
from tests.conftest import git
from tests.e2e.conftest import SCRIPT
from tests.postgres import FAST, Server, free_port, somebody

NAMES: Final = ("anvil", "bellows")
SWITCH: Final = "10.83.0.1"
"""The address of the switch itself, where the server listens."""
_KEPT: Final = (str(Path(__file__).parents[2]), sys.prefix)
"""What the tests run from: a machine has that too."""
PASSWORD: Final = secrets.token_hex(8)
_SPACES: Final = ("--mount", "--uts", "--ipc", "--net", "--pid")
# The end of its input is the end of the tests; whom nobody waits for is reaped, as by any machine.
_HOLD: Final = f"""exec {sys.executable} -c '
import signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("up", flush=True)
sys.stdin.read()'"""
_BEGIN_SWITCH: Final = f"""
set -e
ip link set lo up
ip link add name switch type bridge
ip address add {SWITCH}/24 dev switch
ip link set switch up
{_HOLD}
"""
_BEGIN_MACHINE: Final = f"""
set -e
name=$1 folder=$2
hostname "$name"
ip link set lo up
shift 2
# What the tests run from may lie in the /tmp that is about to be hidden.
while [ "$1" != hide ]; do
  case "$1" in /tmp/*) mkdir -p "$folder$1"; mount --rbind "$1" "$folder$1";; esac
  shift
done
shift
for other; do mount -t tmpfs none "$other"; done
mount --rbind "$folder/tmp" /tmp
mount -t tmpfs none /run
{_HOLD}
"""


@dataclass(frozen=True, slots=True)
class Room:
    """Namespaces, which last for as long as the process that holds them."""

    holder: subprocess.Popen[str]
    spaces: tuple[str, ...]

    @property
    def pid(self) -> int:
        """Of the first process inside."""
        (first,) = psutil.Process(self.holder.pid).children()
        return int(first.pid)

    def words(self, *words: str) -> list[str]:
        """How words are run inside."""
        return ["nsenter", "--target", str(self.pid), *self.spaces, "--", *words]

    def ip(self, words: str) -> None:
        """`ip WORDS` in this network alone: ids of processes are those of the tests."""
        inside = ["nsenter", "--target", str(self.pid), "--net", "--"]
        subprocess.run([*inside, "ip", *words.split()], check=True, capture_output=True)

    def end(self) -> None:
        """At once, with all that runs inside, as a machine that loses its power."""
        self.holder.kill()
        self.holder.communicate()


def may_make_rooms() -> bool:
    """Whether namespaces, and a network between them, can be made here."""
    if os.geteuid() != 0 or any(shutil.which(program) is None for program in ("unshare", "nsenter", "setpriv", "ip")):
        return False
    try:
        room(_BEGIN_SWITCH, spaces=("--net", "--pid")).end()
    except AssertionError:
        return False
    return True


def room(script: str, *arguments: str, spaces: tuple[str, ...]) -> Room:
    """Namespaces in which a shell script makes what is to be there, says `up` and holds them."""
    holder = subprocess.Popen(
        ["unshare", "--fork", "--kill-child", *spaces, *(["--mount-proc"] if "--pid" in spaces else []),
         "sh", "-c", script, "sh", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    if holder.stdout.readline() != "up\n":
        holder.communicate()
        raise AssertionError(f"no namespaces with {spaces}")
    return Room(holder, spaces)


class ServerBetween(Server):
    """A server on the switch, which asks whoever comes from a machine for the password."""

    address = SWITCH

    def __init__(self, switch: Room, bin_folder: Path, home: Path) -> None:
        super().__init__(bin_folder, home, free_port(), {}, FAST)
        self._switch, self._as = switch, somebody(home)

    def _words(self, *words: str) -> list[str]:
        someone = f"--reuid={self._as['user']}", f"--regid={self._as['group']}", "--clear-groups"
        return self._switch.words("setpriv", *someone, *words)

    def begin(self) -> None:
        self.initialise()
        with (self._home / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {SWITCH}/24 scram-sha-256\n")
        self.settle()
        self.execute(f"ALTER USER spurline PASSWORD '{PASSWORD}'")


@dataclass
class Machine(Stage):
    """The project on a machine of its own."""

    name: str = ""
    number: int = 0
    switch: Room | None = None
    others: tuple[str, ...] = ()
    room: Room | None = None

    @property
    def folder(self) -> Path:
        return self.root.parents[1]

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    def temporary(self) -> list[str]:
        shown = {str(path)[len("/tmp/") :] for kept in _KEPT for path in (Path(kept), *Path(kept).parents)}
        return [path for path in super().temporary() if path not in shown]

    def begin(self) -> None:
        """Switch it on; it finds its disk as it was."""
        assert self.switch is not None
        self.room = room(_BEGIN_MACHINE, self.name, str(self.folder), *_KEPT, "hide", *self.others, spaces=_SPACES)
        self.switch.ip(f"link add port{self.number} type veth peer name eth0 netns {self.room.pid}")
        self.switch.ip(f"link set port{self.number} master switch up")
        self.room.ip(f"address add 10.83.0.{self.number + 1}/24 dev eth0")
        self.room.ip("link set eth0 up")
        home = f"HOME={self.root.parent}"
        self.script = (*self.room.words("env", "-u", "TMPDIR", "-C", str(self.root), home), str(SCRIPT))

    def crash(self) -> None:
        """It loses its power; what it had written is there when it begins again."""
        assert self.room is not None
        self.room.end()

    def cable(self, state: str) -> None:
        """`down` pulls it out, `up` puts it in again."""
        assert self.switch is not None
        self.switch.ip(f"link set port{self.number} {state}")


@contextmanager
def two_machines(bin_folder: Path, tickets: Sequence[str], **said: str) -> Iterator[tuple[Machine, Machine]]:
    """Both have the project at the same commit. One knows the password by its environment, the other by ~/.pgpass."""
    with ExitStack() as stack:
        # Not below /tmp: each machine has its own.
        base = Path(tempfile.mkdtemp(prefix="machines-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        base.chmod(0o755)
        switch = room(_BEGIN_SWITCH, spaces=("--net", "--pid"))
        stack.callback(switch.end)
        (base / "server").mkdir()
        server = ServerBetween(switch, bin_folder, base / "server")
        server.begin()
        server.execute("CREATE DATABASE sample")
        store = OnServer(server, "sample")
        machines = []
        for number, name in enumerate(NAMES, 1):
            home = base / name / "home"
            home.mkdir(parents=True)
            (base / name / "tmp").mkdir()
            others = tuple(str(base / other) for other in (*NAMES, "server") if other != name)
            machines.append(
                Machine(home / "sample", tuple(tickets), store, name=name, number=number, switch=switch, others=others)
            )
        here, there = machines
        make(here.root, tickets, store=store.url, **said)
        git(there.root.parent, "clone", "-q", str(here.root))
        here.env = {"PGPASSWORD": PASSWORD}
        secret = there.root.parent / ".pgpass"
        secret.write_text(f"{SWITCH}:*:*:spurline:{PASSWORD}\n")
        secret.chmod(0o600)
        for machine in machines:
            machine.begin()
            stack.callback(machine.crash)
        yield here, there
