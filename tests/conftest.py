"""What every test shares: a scrubbed environment and a way to make small git repositories."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from harness.store.database import Database
from tests.postgres import Server, programs, serve

# A busy machine is no reason to fail: nothing here asserts how long something takes.
# In CI the same examples are drawn each time: what is found by chance is found at a desk.
settings.register_profile(
    "spurline", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("spurline")

# A shell without job control has what it starts in the background ignore Ctrl-C, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

MakeRepo = Callable[[Mapping[str, str]], Path]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """All modules and tests stay until the end: looking through them for garbage again and again is a sixth of what the
    tests in this process take."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _scrubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "SPURLINE_", "GIT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)


@pytest.fixture
def make_repo(tmp_path: Path) -> MakeRepo:
    """Make a git repository of these files (path to text) with one commit; its root."""

    def make(files: Mapping[str, str]) -> Path:
        root = tmp_path / "repo"
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        git(root, "init", "-q", "-b", "main")
        commit_all(root, "first")
        return root

    return make


def git(root: Path, *args: str) -> str:
    """Run git in `root`; what it printed, stripped."""
    root.mkdir(parents=True, exist_ok=True)
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")
    return subprocess.run(
        ["git", *identity, *args], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit_all(root: Path, message: str) -> str:
    """Commit everything in `root`; the new commit."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)
    return git(root, "rev-parse", "HEAD")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL of our own; skipped where none is installed."""
    if (found := programs()) is None:
        pytest.skip("no PostgreSQL is installed: neither `initdb` on the PATH nor /usr/lib/postgresql")
    with serve(found) as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: Server) -> str:
    """The name of a database with our schema, to copy: migrating takes longer than most tests."""
    postgres.execute("CREATE DATABASE migrated")
    Database(postgres.url("migrated")).close()
    return "migrated"


@pytest.fixture
def postgres_url(postgres: Server, migrated: str) -> Iterator[str]:
    """The URL of a migrated database that is this test's own."""
    name = f"test_{secrets.token_hex(6)}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE {migrated}")
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
