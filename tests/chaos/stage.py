"""A small real system with a backlog of many stories, worked by the installed command line; and the count of what is
there afterwards.

Each ticket ends in a way of its own, whatever happens meanwhile: so a run that was killed can be held against one that
was not. Nothing is told to the product: the tests look at its store, its keeper and the machine.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from tests.chaos.stores import InFile, OnServer, Store
from tests.chaos.stories import make
from tests.conftest import git
from tests.e2e.conftest import SCRIPT, environment
from tests.postgres import Server
from tests.processes import GRACE_S

Point = tuple[str, str, int]
"""A place, when, and how often it must be reached: see mortal.py."""

CHECKED: Final[Point] = ("harness.validation.trial:Court._run", "before", 2)
"""The first check has run in the sandbox, the second is about to."""
MORTAL: Final = Path(__file__).with_name("mortal.py")
ELSEWHERE: Final = Path(__file__).with_name("elsewhere.py")
FINAL: Final = ("verified", "failed", "unproven", "needs_human", "error", "cancelled")
_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Ran:
    """How one process ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]


def ended(process: subprocess.Popen[str], timeout_s: float = 300.0) -> Ran:
    """Wait for the end of the process; one that does not come to it is killed."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return Ran(process.returncode, out, err)


@dataclass
class Stage:
    """One project in a folder of its own, with its own folder for temporary files."""

    root: Path
    tickets: tuple[str, ...]
    store: Store
    env: Mapping[str, str] = field(default_factory=dict)
    script: tuple[str, ...] = (str(SCRIPT),)

    @property
    def tmp(self) -> Path:
        return self.root.parent / f"{self.root.name}-tmp"

    @property
    def state(self) -> Path:
        return self.root / ".spurline"

    def start(
        self, *arguments: str, at: Point | None = None, number: str = "SIGKILL", stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        """`spurline ARGUMENTS…`, which sends itself the signal `at` that point."""
        self.tmp.mkdir(exist_ok=True)
        mortal = [sys.executable, str(MORTAL), number, *map(str, at)] if at else [*self.script]
        return subprocess.Popen(
            [*mortal, *arguments],
            cwd=self.root,
            env={**environment(), **self.env, "TMPDIR": str(self.tmp)},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, at: Point | None = None, timeout_s: float = 300.0, stdin: str | None = None) -> Ran:
        """`start`, to its end; `stdin` is what it can read there."""
        if stdin is None:
            return ended(self.start(*arguments, at=at), timeout_s)
        with tempfile.TemporaryFile("w+", dir=self.root.parent) as file:
            file.write(stdin)
            file.seek(0)
            return ended(self.start(*arguments, at=at, stdin=file.fileno()), timeout_s)

    @contextmanager
    def stopped(self, *arguments: str, at: Point) -> Iterator[subprocess.Popen[str]]:
        """The process while it stands still at the point; it goes on after the block."""
        process = self.start(*arguments, at=at, number="SIGSTOP")
        try:
            deadline = time.monotonic() + GRACE_S
            while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                assert process.poll() is None, (at, process.communicate())
                assert time.monotonic() < deadline, at
                time.sleep(_POLL_S)
            yield process
            process.send_signal(signal.SIGCONT)
        except BaseException:
            process.kill()
            process.communicate()
            raise

    def standing_still(self, process: subprocess.Popen[str]) -> None:
        """Wait until the process was stopped, and does not hold what writers wait for: who waits for a process that
        holds a file's only lock and never ends waits for ever."""
        while True:
            while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                assert process.poll() is None, process.communicate()
                time.sleep(_POLL_S)
            if self.store.may_write():
                return
            process.send_signal(signal.SIGCONT)
            time.sleep(_POLL_S)
            process.send_signal(signal.SIGSTOP)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the store says."""
        return self.store.rows(query)

    def until(
        self, query: str, *, process: subprocess.Popen[str] | None = None, within_s: float = GRACE_S
    ) -> list[tuple[Any, ...]]:
        """Look into the store until the query finds something, while the process lives."""
        deadline = time.monotonic() + within_s
        while not (found := self.rows(query)):
            assert time.monotonic() < deadline, query
            assert process is None or process.poll() is None, (query, process.communicate())
            time.sleep(_POLL_S)
        return found

    def states(self) -> dict[str, str]:
        """How each ticket stands."""
        return dict(self.rows("SELECT ticket, state FROM agents"))

    def account(self) -> dict[str, tuple[Any, ...]]:
        """What a run came to, ticket by ticket, as far as it does not depend on when it ran."""
        found = {}
        for ticket, state, reason, iterations, branch, commit in self.rows(
            'SELECT ticket, state, reason, iterations, branch, "commit" FROM agents'
        ):
            made = branch in self.branches()
            # Not their trees: those hold where the store is, too.
            commits = ("log", "--format=tformat:commit", "--raw", "--no-abbrev", f"main..{branch}")
            changes = git(self.root, *commits).splitlines() if made else None
            noted = commit is not None and bool(self.noted(commit))
            found[ticket] = (state, reason, iterations, changes, noted)
        return found

    def branches(self) -> list[str]:
        """What Spurline made of them."""
        return git(self.root, "for-each-ref", "--format=%(refname:short)", "refs/heads/spurline").split()

    def noted(self, commit: str) -> str:
        done = subprocess.run(
            ["git", "notes", "--ref", "spurline", "show", commit], cwd=self.root, capture_output=True, text=True
        )
        return done.stdout

    def assert_once(self) -> None:
        """Every ticket is accounted for once: one end an attempt, no effect left open or done twice."""
        self.assert_ended_once()
        effects = self.rows("SELECT kind, target, state FROM effects")
        assert {state for _, _, state in effects} <= {"observed"}
        assert len({(kind, target) for kind, target, _ in effects}) == len(effects)
        verified = [ticket for ticket, state in self.states().items() if state == "verified"]
        assert len(effects) == 2 * len(verified)

    def assert_ended_once(self) -> None:
        """Every ticket has come to one end, and nobody works on any."""
        ends = Counter(
            ticket
            for ticket, data in self.rows("SELECT ticket, data FROM events WHERE kind = 'agent.state'")
            if json.loads(data)["state"] in FINAL
        )
        assert ends == Counter(self.tickets)
        assert sorted(self.states()) == sorted(self.tickets)
        assert set(self.states().values()) <= set(FINAL)
        assert self.rows("SELECT ticket FROM agents WHERE holder IS NOT NULL") == []
        assert self.rows("SELECT id FROM workers WHERE ended_at IS NULL") == []

    def assert_nothing_left(self) -> None:
        """No process, and so no port or route; no worktree, checkout, temporary file or lock."""
        self.quiet()
        assert git(self.root, "worktree", "list").count("\n") == 0
        left = [
            path.relative_to(self.root).as_posix()
            for folder in (self.state / name for name in ("worktrees", "judge", "git/scratch", "local/checkouts"))
            for path in (folder.rglob("*") if folder.exists() else ())
        ]
        assert left == [], left
        assert [path.name for path in (self.root / ".git").rglob("*.lock")] == []
        assert self.temporary() == []

    def temporary(self) -> list[str]:
        """What lies in its folder for temporary files."""
        return sorted(str(path.relative_to(self.tmp)) for path in self.tmp.rglob("*"))

    def quiet(self) -> None:
        """Wait until nothing of the project runs, save for a keeper that keeps nothing: it ends by itself."""
        deadline = time.monotonic() + GRACE_S / 3
        while left := [
            *(line for line in self.running().values() if " keeper " not in line and "watchdog.py" not in line),
            *(f"the store is open: {user}" for user in self.store.users()),
        ]:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)

    def running(self) -> dict[int, str]:
        """Command lines, by process id, of what has to do with the project."""
        found = {}
        for process in psutil.process_iter():
            try:
                words = [process.cwd(), *process.cmdline(), process.environ().get("SPURLINE_OWNER", "")]
                alive = process.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            if alive and any(str(self.root) in word for word in words) and process.pid != os.getpid():
                found[process.pid] = " ".join(words[1:-1])
        return found

    def clear(self) -> None:
        """End whatever is left, so that one test's fault is not the next one's."""
        self.run("baseline", "down")
        for pid in self.running():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def staged(tickets: Sequence[str], *, server: Server | None = None, **said: str) -> Iterator[Stage]:
    """The project in a folder of its own, and where there is a server its store in a database of its own; all of it is
    ended and removed afterwards.

    Its path is short, as a user's is: the keeper's socket lies in it then, and nothing in the temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    with database_of(server) as there:
        store = there or InFile(folder / "repo" / ".spurline" / "spurline.db")
        root = make(folder / "repo", tickets, **said, store=there.url if there else "")
        stage = Stage(root, tuple(tickets), store)
        try:
            yield stage
        finally:
            stage.clear()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def elsewhere(stage: Stage, *, off_s: float) -> Iterator[Stage]:
    """The same project on another machine, as far as Spurline can tell: in a clone of its own, with the same store, and
    with a clock that is so many seconds off."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    git(folder, "clone", "-q", str(stage.root), "repo")
    script = (sys.executable, str(ELSEWHERE), "elsewhere", str(off_s))
    other = Stage(folder / "repo", stage.tickets, stage.store, script=script)
    try:
        yield other
    finally:
        other.clear()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database_of(server: Server | None) -> Iterator[OnServer | None]:
    """A database of its own, as empty as a user's first one."""
    if server is None:
        yield None
        return
    name = f"chaos_{secrets.token_hex(6)}"
    server.execute(f"CREATE DATABASE {name}")
    try:
        yield OnServer(server, name)
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")
