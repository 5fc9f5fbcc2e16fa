"""Process groups, the watchdog and readiness, with real processes and real servers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from contextlib import closing, suppress
from pathlib import Path

import grpc
import psutil
import pytest

from sandbox.confinement import Cage
from sandbox.local import watchdog
from sandbox.local.guard import Guard
from sandbox.local.logfile import LogFile
from sandbox.local.process import Process
from sandbox.local.readiness import is_ready, wait_ready
from sandbox.service import Ready
from tests.processes import GRACE_S

FAMILY = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    with Guard(tmp_path / "state") as guard:
        yield guard


@pytest.fixture
def log(tmp_path: Path) -> LogFile:
    return LogFile(tmp_path / "x.log")


def start(guard: Guard, log: LogFile, code: str) -> Process:
    env = {"PATH": os.environ["PATH"], "SPURLINE_OWNER": guard.owner}
    return Process.start([sys.executable, "-c", code], cwd=Path("/"), env=env, log=log, guard=guard)


async def first_line(log: LogFile) -> str:
    async with asyncio.timeout(20):
        while not (lines := log.tail()):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
    return lines[0]


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while not gone(pid):  # noqa: ASYNC110 - the process is nobody's child that we could wait for
            await asyncio.sleep(0.01)


async def test_a_group_ends_as_a_whole(guard: Guard, log: LogFile) -> None:
    process = start(guard, log, FAMILY)
    grandchild = int(await first_line(log))
    await process.stop(grace_s=5)
    assert process.exit_code == -signal.SIGTERM
    assert process.ended() == "was ended by SIGTERM"
    await until_gone(grandchild)


async def test_a_leader_that_dies_takes_its_group_along(guard: Guard, log: LogFile) -> None:
    process = start(guard, log, FAMILY)
    grandchild = int(await first_line(log))
    os.kill(process.pid, signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    await until_gone(grandchild)


async def test_who_ignores_the_term_signal_is_killed(guard: Guard, log: LogFile) -> None:
    process = start(guard, log, STUBBORN)
    await first_line(log)
    await process.stop(grace_s=0.1)
    assert process.exit_code == -signal.SIGKILL


async def test_a_cage_that_is_ended_while_it_is_built_leaves_nothing(
    guard: Guard, log: LogFile, tmp_path: Path
) -> None:
    cage = Cage(writable=(tmp_path,), network=True)
    for number in range(80):
        process = Process.start(
            [sys.executable, "-c", "import time; time.sleep(600)"],
            cwd=tmp_path,
            env={"SPURLINE_OWNER": guard.owner},
            log=log,
            guard=guard,
            cage=cage,
        )
        await asyncio.sleep(number % 16 / 2000)
        async with asyncio.timeout(GRACE_S):
            await process.stop(grace_s=0)
    assert list(watchdog.marked(guard.owner)) == []


async def test_output_and_exit_code_are_kept(guard: Guard, log: LogFile) -> None:
    process = start(guard, log, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(4)")
    assert await process.wait() == 4
    assert not process.alive
    assert set(log.tail()) == {"out", "err"}
    assert process.ended() == "ended with exit code 4"


def test_the_watchdog_kills_what_its_owner_left(tmp_path: Path) -> None:
    """Its groups, whoever bears the owner's mark, and its paths; nobody else."""
    folder = tmp_path / "checkouts"
    (folder / "x").mkdir(parents=True)
    argv = ["sleep", "600"]
    with (
        subprocess.Popen([sys.executable, "-I", "-S", watchdog.__file__, "me"], stdin=subprocess.PIPE) as dog,
        subprocess.Popen(argv, start_new_session=True) as group,
        subprocess.Popen(argv, start_new_session=True, env={**os.environ, "SPURLINE_OWNER": "me"}) as marked,
        subprocess.Popen(argv, start_new_session=True) as removed,
        subprocess.Popen(argv, start_new_session=True, env={**os.environ, "SPURLINE_OWNER": "me2"}) as other,
    ):
        try:
            lines = f"add {group.pid}\nadd {removed.pid}\nremove {removed.pid}\npath {folder}\n"
            dog.communicate(lines.encode(), GRACE_S)
            assert group.wait(GRACE_S) == -signal.SIGKILL
            if sys.platform == "linux":
                assert marked.wait(GRACE_S) == -signal.SIGKILL
            assert removed.poll() is None
            assert other.poll() is None
            assert not folder.exists()
        finally:
            for process in (dog, group, marked, removed, other):
                process.kill()


def test_the_watchdog_knows_a_recycled_id() -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        try:
            watchdog.kill_group(process.pid, "1")
            assert process.poll() is None or sys.platform != "linux"
            watchdog.kill_group(process.pid, watchdog.born(process.pid))
            assert process.wait(GRACE_S) == -signal.SIGKILL
        finally:
            process.kill()


async def test_a_process_that_ends_is_not_waited_for(guard: Guard, log: LogFile) -> None:
    process = start(guard, log, "raise SystemExit(1)")
    ready = Ready(kind="tcp", timeout_s=100)
    assert not await wait_ready(ready, "127.0.0.1", 1, process=process, log=log)
    assert process.exit_code == 1


class Health(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """The health service with one fixed answer, in bytes."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if self.answer is None or details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.answer)


@pytest.mark.parametrize(
    ("answer", "serving"),
    [(b"\x08\x01", True), (b"\x08\x02", False), (b"", False), (None, False)],
    ids=["serving", "not serving", "unknown", "no health service"],
)
async def test_grpc_health_is_asked(answer: bytes | None, serving: bool) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(Health(answer),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert await is_ready(Ready(kind="grpc"), "127.0.0.1", port, log=None) is serving
    finally:
        server.stop(None).wait()


async def test_http_is_ready_at_2xx_and_3xx_only() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError):  # who only connects asks nothing
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            writer.write(f"HTTP/1.1 {path[1:]} X\r\ncontent-length: 0\r\n\r\n".encode())

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = {
            status: await is_ready(Ready(kind="http", target=f"/{status}"), "127.0.0.1", port, log=None)
            for status in (200, 204, 302, 404, 500)
        }
    assert found == {200: True, 204: True, 302: True, 404: False, 500: False}
    assert not await is_ready(Ready(kind="tcp"), "127.0.0.1", port, log=None)
