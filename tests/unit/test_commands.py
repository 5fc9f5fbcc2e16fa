"""Commands end when they should, take their children along, and see only what their cage shows."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness import commands
from harness.commands import Finished, run, scrubbed_env
from sandbox.confinement import Cage, confinement

caged_only = pytest.mark.skipif(confinement() == "none", reason="bubblewrap is missing or not allowed here")


@pytest.fixture(params=["free", "caged"])
def cage(request: pytest.FixtureRequest, tmp_path: Path) -> Cage | None:
    return Cage(writable=(tmp_path,)) if request.param == "caged" else None


async def bash(script: str, cwd: Path, cage: Cage | None = None, timeout_s: float = 30.0) -> Finished:
    return await run(["bash", "-c", script], cwd=cwd, env=scrubbed_env(), timeout_s=timeout_s, cage=cage)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def until(holds: Callable[[], bool]) -> None:
    # Ends by the test's own time limit: what is awaited is another process' doing, and tells nobody.
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def appears(path: Path) -> str:
    await until(lambda: path.exists() and path.read_text().endswith("\n"))
    return path.read_text()


async def test_output_is_merged_and_the_status_is_kept(tmp_path: Path, cage: Cage | None) -> None:
    ended = await bash("echo out; echo err >&2; exit 3", tmp_path, cage)
    assert (ended.code, ended.output, ended.timed_out) == (3, "out\nerr\n", False)


async def test_a_signal_reads_as_shells_have_it(tmp_path: Path, cage: Cage | None) -> None:
    assert (await bash("kill -SEGV $$", tmp_path, cage)).code == 128 + signal.SIGSEGV


async def test_input_larger_than_a_pipe_comes_back_whole(tmp_path: Path, cage: Cage | None) -> None:
    sent = b"0123456789abcdef" * 20_000
    ended = await run(
        ["cat"],
        cwd=tmp_path,
        env=scrubbed_env(),
        timeout_s=30,
        cage=cage,
        stdin=sent,
        output_limit=1_000_000,
    )
    assert ended.output.encode() == sent


async def test_input_that_nobody_reads_is_no_fault(tmp_path: Path) -> None:
    ended = await run(["true"], cwd=tmp_path, env=scrubbed_env(), timeout_s=30, cage=None, stdin=b"x" * 1_000_000)
    assert ended.code == 0


async def test_of_long_output_head_and_tail_are_kept(tmp_path: Path) -> None:
    script = "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last"
    ended = await run(
        ["bash", "-c", script], cwd=tmp_path, env=scrubbed_env(), timeout_s=30, cage=None, output_limit=900
    )
    assert ended.output.startswith("first\n")
    assert ended.output.endswith("last\n")
    assert f"… {3_000_000 + 12 - 900} bytes left out …" in ended.output
    assert len(ended.output) < 1000


async def test_at_the_time_limit_the_whole_group_dies(tmp_path: Path, cage: Cage | None) -> None:
    ended = await bash("echo before; sleep 600 & sleep 600", tmp_path, cage, timeout_s=1.5)
    assert (ended.code, ended.timed_out, ended.output) == (None, True, "before\n")


async def test_children_in_the_background_end_with_their_leader(tmp_path: Path) -> None:
    ended = await bash("sleep 600 & echo $!", tmp_path)
    assert ended.code == 0
    await until(lambda: not alive(int(ended.output)))


@caged_only
async def test_inside_a_cage_even_a_child_that_left_the_group_ends(tmp_path: Path) -> None:
    mark = f"{os.getpid()}.5"
    ended = await bash(f"setsid sleep 600{mark} & sleep 0.2", tmp_path, Cage(writable=(tmp_path,)))
    assert ended.code == 0
    assert not [child for child in psutil.process_iter(["cmdline"]) if f"600{mark}" in (child.info["cmdline"] or ())]


async def test_cancelling_the_caller_kills_the_command(tmp_path: Path, cage: Cage | None) -> None:
    task = asyncio.create_task(bash("echo begun > mark; sleep 600; echo ended > mark", tmp_path, cage))
    await appears(tmp_path / "mark")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "mark").read_text() == "begun\n"


def start_harness(script: str, folder: Path) -> subprocess.Popen[bytes]:
    ours = str(Path(commands.__file__).parents[1])
    return subprocess.Popen([sys.executable, "-c", script], cwd=folder, env={**os.environ, "PYTHONPATH": ours})


async def test_when_we_are_killed_the_group_dies_too(tmp_path: Path) -> None:
    harness = (
        "import asyncio, sys; from pathlib import Path; from harness.commands import run, scrubbed_env\n"
        "script = 'sleep 600 & echo $$ $! > pids; wait'\n"
        "asyncio.run(run(['bash', '-c', script], cwd=Path.cwd(), env=scrubbed_env(), timeout_s=600, cage=None))"
    )
    victim = start_harness(harness, tmp_path)
    try:
        pids = [int(pid) for pid in (await appears(tmp_path / "pids")).split()]
        assert all(alive(pid) for pid in pids)
    finally:
        victim.kill()
        victim.wait()
    await until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="found by what /proc tells")
async def test_when_we_are_killed_before_the_reaper_was_told_the_command_dies_too(tmp_path: Path) -> None:
    harness = (
        "import asyncio, time; from pathlib import Path\n"
        "from harness import supervision; from harness.commands import run, scrubbed_env\n"
        "supervision.Reaper.watch = lambda reaper, group: time.sleep(600)\n"
        "script = 'setsid sleep 600 & echo $$ $! > pids; wait'\n"
        "asyncio.run(run(['bash', '-c', script], cwd=Path.cwd(), env=scrubbed_env(), timeout_s=600, cage=None))"
    )
    victim = start_harness(harness, tmp_path)
    try:
        pids = [int(pid) for pid in (await appears(tmp_path / "pids")).split()]
    finally:
        victim.kill()
        victim.wait()
    await until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize(
    ("argv", "folder", "said"),
    [
        (["no-such-program"], ".", "no-such-program: command not found"),
        (["./absent"], ".", "./absent: command not found"),
        (["true"], "absent", "no such folder to run 'true' in"),
        (["bash", "-c", "\0"], ".", "cannot be started"),
    ],
)
async def test_what_cannot_be_started_is_a_result(
    tmp_path: Path, cage: Cage | None, argv: list[str], folder: str, said: str
) -> None:
    ended = await run(argv, cwd=tmp_path / folder, env=scrubbed_env(), timeout_s=30, cage=cage)
    assert ended.code == 127
    assert said in ended.output


async def test_a_hundred_commands_at_once(tmp_path: Path) -> None:
    ended = await asyncio.gather(*(bash(f"sleep 0.1; echo {n}", tmp_path) for n in range(100)))
    assert [one.output for one in ended] == [f"{n}\n" for n in range(100)]


def test_the_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "GITHUB_TOKEN", "DB_SECRET", "PYTHONPATH", "LD_PRELOAD"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("TERM", "xterm")
    env = scrubbed_env({"SPURLINE_URL": "http://127.0.0.1:1"})
    assert {"PATH", "LC_TIME", "SPURLINE_URL"} <= env.keys()
    assert env["TERM"] == "dumb"
    assert not {name for name in env if name.startswith(("ANTHROPIC", "GITHUB", "DB_", "PYTHONPATH", "LD_"))}


@caged_only
async def test_of_two_paths_the_inner_one_decides(tmp_path: Path) -> None:
    state, worktree = tmp_path / "state", tmp_path / "state" / "worktrees" / "one"
    worktree.mkdir(parents=True)
    (worktree / ".git").write_text("gitdir: elsewhere\n")
    (state / "secret").write_text("hush")
    (tmp_path / "readme").write_text("hello\n")
    cage = Cage(writable=(worktree,), readable=(tmp_path, worktree / ".git"), hidden=(state,))
    assert (await bash("cat ../../../readme", worktree, cage)).output == "hello\n"
    assert (await bash("echo new > ../../../readme", worktree, cage)).code != 0
    assert (await bash("cat ../../secret", worktree, cage)).code != 0
    assert (await bash("echo mine > file && cat file", worktree, cage)).output == "mine\n"
    for attempt in ("echo x > .git", "rm .git", "mv .git away", "ln -sf /etc .git"):
        assert (await bash(attempt, worktree, cage)).code != 0
    assert (worktree / ".git").read_text() == "gitdir: elsewhere\n"


@caged_only
async def test_the_rest_of_the_machine_is_read_only_or_hidden(tmp_path: Path) -> None:
    cage = Cage(writable=(tmp_path,))
    assert (await bash(f"ls -A {Path.home()}/.ssh {Path.home()}/.bash_history", tmp_path, cage)).code != 0
    assert (await bash("touch /usr/planted /etc/planted", tmp_path, cage)).code != 0
    assert (await bash("mount -o remount,rw /", tmp_path, cage)).code != 0
    assert (await bash("touch /tmp/fresh && echo $TMPDIR", tmp_path, cage)).output == "/tmp\n"
    assert not Path("/tmp/fresh").exists()
    assert (await bash(f"kill -0 {os.getpid()}", tmp_path, cage)).code != 0


@caged_only
async def test_the_network_is_only_there_when_it_is_granted(tmp_path: Path) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        script = f"exec 3<>/dev/tcp/127.0.0.1/{port} && cat <&3"
        assert (await bash(script, tmp_path, Cage(writable=(tmp_path,), network=True))).output == "hello\n"
        assert "hello" not in (await bash(script, tmp_path, Cage(writable=(tmp_path,)))).output


@pytest.fixture
def without_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "echo"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))
    confinement.cache_clear()
    yield
    confinement.cache_clear()


@pytest.mark.usefixtures("without_bubblewrap")
async def test_without_bubblewrap_commands_still_run(tmp_path: Path) -> None:
    assert confinement() == "none"
    ended = await bash("echo ran", tmp_path, Cage(writable=(tmp_path,)))
    assert (ended.code, ended.output) == (0, "ran\n")


@caged_only
async def test_where_our_sockets_may_lie_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only mount closes no socket, and whoever speaks to the keeper's can do what we can."""
    for variable in ("TMPDIR", "XDG_RUNTIME_DIR"):
        place = tmp_path / variable
        place.mkdir()
        (place / "keeper.sock").touch()
        monkeypatch.setenv(variable, str(place))
    monkeypatch.setattr("tempfile.tempdir", None)
    cage = Cage(writable=(tmp_path / "own",), readable=(tmp_path,))
    (tmp_path / "own").mkdir()
    assert (await bash("ls ../TMPDIR ../XDG_RUNTIME_DIR | grep sock", tmp_path / "own", cage)).output == ""
