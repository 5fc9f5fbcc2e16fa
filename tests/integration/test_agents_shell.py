"""The agent's commands in a real git work tree, as they lie in `.spurline/`: what they reach, and what they do not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.agents.anthropic.shell import Grounds, bash_tool
from sandbox.confinement import confinement

caged_only = pytest.mark.skipif(confinement() == "none", reason="bubblewrap is missing or not allowed here")


@pytest.fixture
def worktree(make_repo: Callable[[Mapping[str, str]], Path]) -> Path:
    root = make_repo({"app.py": "print('hello')\n", ".gitignore": ".spurline/\n.venv/\n"})
    for name in ("secret", "worktrees/two/app.py"):
        path = root / ".spurline" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("hush\n")
    (root / ".venv").mkdir()
    (root / ".venv" / "tool").write_text("linked\n")
    ours = root / ".spurline" / "worktrees" / "one"
    subprocess.run(["git", "worktree", "add", "-q", "-b", "spurline/run/one", str(ours)], cwd=root, check=True)
    return ours


async def said(worktree: Path, command: str) -> str:
    root = worktree.parents[2]
    tool = bash_tool(worktree, Grounds(root, root / ".spurline", readable=(root / ".venv",)))
    return str((await tool.answer({"command": command})).content)


async def test_git_can_be_asked(worktree: Path) -> None:
    assert await said(worktree, "echo new >> app.py; git status --short; git log --format=%s") == " M app.py\nfirst\n"


async def test_every_command_begins_anew(worktree: Path) -> None:
    assert await said(worktree, "cd /; export A=1; sleep 600 & true") == "(no output)"
    assert await said(worktree, "basename $PWD; echo ${A-unset}") == "one\nunset\n"


@caged_only
async def test_git_cannot_be_written(worktree: Path) -> None:
    head = (worktree.parents[2] / ".git" / "HEAD").read_text()
    for attempt in (
        "git add app.py && git commit -m mine",
        "git config core.fsmonitor /tmp/evil",
        "echo 'gitdir: /tmp/evil' > .git",
        "mv .git aside",
        "echo x > $(git rev-parse --git-common-dir)/hooks/pre-commit",
    ):
        assert "[exit status" in await said(worktree, f"echo new >> app.py; {attempt}")
    assert (worktree.parents[2] / ".git" / "HEAD").read_text() == head
    assert (worktree / ".git").read_text().startswith("gitdir: ")


@caged_only
async def test_nobody_elses_work_is_seen(worktree: Path) -> None:
    assert await said(worktree, "ls -A ../..; ls -A ..") == "worktrees\none\n"
    assert await said(worktree, "cat ../../../.venv/tool") == "linked\n"
    assert await said(worktree, "ls -A ../../..") == ".git\n.spurline\n.venv\n"
    assert "Read-only" in await said(worktree, "echo x > ../../../.venv/tool")


@caged_only
async def test_what_compilers_fetched_can_be_read_and_not_written(
    worktree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in (("GOMODCACHE", "mod"), ("CARGO_HOME", "registry"), ("npm_config_cache", "npm")):
        (tmp_path / "caches" / folder).mkdir(parents=True)
        (tmp_path / "caches" / folder / "one").write_text("fetched\n")
        monkeypatch.setenv(name, str(tmp_path / "caches" / ("" if name == "CARGO_HOME" else folder)))
    assert await said(worktree, "cat $GOMODCACHE/one $CARGO_HOME/registry/one") == "fetched\nfetched\n"
    assert "Read-only" in await said(worktree, "echo x > $GOMODCACHE/one")
    assert "No such file" in await said(worktree, "cat $npm_config_cache/one")


@caged_only
async def test_tests_that_start_a_server_on_localhost_work(worktree: Path) -> None:
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname());"
        "print('connected')"
    )
    assert await said(worktree, f'python3 -c "{script}"') == "connected\n"
