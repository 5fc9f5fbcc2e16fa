"""The small parts of the local driver: ports, logs, environments, the wire, where the socket lies."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest

from sandbox.driver import Baseline, Cursor, Fork, LogLine, Running, Sandbox, Source, Window
from sandbox.exchanges import Exchange
from sandbox.hops import Hop
from sandbox.keys import new_key
from sandbox.local import environment, wire
from sandbox.local.client import KeeperDriver
from sandbox.local.ledger import Ledger
from sandbox.local.logfile import LogFile
from sandbox.local.ports import BLOCK, PortPool
from sandbox.local.socketpath import private_folder, socket_path
from sandbox.local.together import together, unsplit
from sandbox.presence import born_at
from sandbox.sample import sample_system
from sandbox.service import Service
from tasks import errors


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_ports_are_handed_out_once_and_never_while_in_use() -> None:
    with closing(PortPool()) as other:
        first = other.take()
        other.close()
    with socket.create_server(("127.0.0.1", first + 1)), closing(PortPool(first=first, last=first + 2)) as pool:
        free = pool.take()
        assert free == first + 2
        with pytest.raises(errors.SandboxError, match="no free port"):
            pool.take()
        pool.give_back(free)
        assert pool.take() == free


def test_no_two_drivers_hand_out_the_same_port_even_before_anybody_listens_there() -> None:
    with closing(PortPool()) as one, closing(PortPool()) as other:
        # More than a block each, so that both grow past one another.
        of_one = [one.take() for _ in range(2 * BLOCK)]
        of_other = [other.take() for _ in range(2 * BLOCK)]
        assert len({*of_one, *of_other}) == 4 * BLOCK


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_nobody_else_can_bind_a_port_between_its_choice_and_the_start_of_its_process(host: str) -> None:
    with closing(PortPool()) as pool:
        port = pool.take()
        with pytest.raises(OSError, match="in use"):
            socket.create_server((host, port))
        pool.let_go(port)
        with socket.create_server((host, port)):
            pool.give_back(port)
            assert port not in [pool.take() for _ in range(BLOCK)]


def test_the_ports_of_a_driver_that_is_gone_are_free() -> None:
    with closing(PortPool()) as one:
        first = one.take() - 1
    with closing(PortPool(first=first, last=first + BLOCK - 1)) as other:
        assert first < other.take() < first + BLOCK


def write(log: LogFile, text: str) -> None:
    descriptor = log.open()
    with open(descriptor, "a", closefd=True) as output:  # noqa: PTH123
        output.write(text)


def test_log_lines_have_the_time_at_which_they_were_seen(tmp_path: Path) -> None:
    clock = Clock()
    log = LogFile(tmp_path / "logs" / "x.log", clock=clock)
    assert log.lines() == ()
    write(log, "one\ntwo\n")
    log.note()
    clock.now = 200.0
    write(log, "three\n")
    assert log.lines() == (LogLine(100.0, "one"), LogLine(100.0, "two"), LogLine(200.0, "three"))
    assert log.lines(since=150.0) == (LogLine(200.0, "three"),)
    assert log.tail(2) == ("two", "three")
    log.remove()
    assert log.lines() == ()


def test_a_log_is_bounded_and_keeps_its_end_and_its_times(tmp_path: Path) -> None:
    clock = Clock()
    log = LogFile(tmp_path / "x.log", limit_bytes=4000, clock=clock)
    for number in range(2000):
        clock.now += 1
        write(log, f"line {number:05}\n")
        log.note()
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size <= 4000 + 1000 + 11
    lines = log.lines()
    assert lines[-1] == LogLine(2100.0, "line 01999")
    numbers = [int(line.text.split()[1]) for line in lines]
    assert numbers == list(range(numbers[0], 2000))
    assert all(line.at == 101.0 + number for line, number in zip(lines, numbers, strict=True))


def test_a_log_that_is_always_noted_keeps_few_marks(tmp_path: Path) -> None:
    clock = Clock()
    log = LogFile(tmp_path / "x.log", clock=clock)
    for _ in range(5000):
        clock.now += 1
        write(log, ".\n")
        log.note()
    assert len(log._marks) <= 2048
    assert log.lines()[-1].at == 5100.0


def test_environment_is_an_allow_list_and_the_services_own_wins() -> None:
    caller = {"PATH": "/bin", "LC_ALL": "C", "OPENAI_API_KEY": "x", "PYTHONPATH": "y", "HOME": "/h"}
    service = Service(name="s", env={"HOME": "/own", "USERS": "${url:users}", "PORT": "1", "SELF": "${port}"})
    made = environment.of_service(service, caller, address=lambda _: ("127.0.0.1", 7), port=9, owner="o")
    assert made == {
        "PYTHONUNBUFFERED": "1",
        "PATH": "/bin",
        "LC_ALL": "C",
        "HOME": "/own",
        "USERS": "http://127.0.0.1:7",
        "SELF": "9",
        "PORT": "9",
        "SPURLINE_OWNER": "o",
    }


VALUES = [
    (wire.UP, Baseline("c" * 40, {"a": Running("a", "h:1", True, 3, 0.1)}, {"a": "http://h:2"}, None, True)),
    (wire.BASELINE, None),
    (
        wire.FORK,
        Sandbox(
            name="n",
            key=new_key(),
            forks={"a": Fork("a", 2, None, "h:1", None, 0.5, 0.0, alive=False)},
            urls={"a": "http://h:1"},
            lease_ends=5.0,
            generation=1,
            faults=("a",),
        ),
    ),
    (
        wire.WINDOW,
        Window(
            since=1.0,
            until=2.0,
            hops=(
                Hop(1.0, 2.0, "client", "a", None, ("baggage",), None, "fork", 1, "h:1", "GET", "/", 200, None, "UF"),
            ),
            strays=(),
            exchanges=(Exchange(1.0, "client", "a", None, "GET", "/", 500, {"x": "y"}, "", {}, "ä\n\x1b"),),
            dropped=1,
        ),
    ),
    (wire.LOGS, (LogLine(1.5, "text"),)),
    (wire.DOWN, None),
]


@pytest.mark.parametrize(("call", "value"), VALUES, ids=lambda value: getattr(value, "method", ""))
def test_values_cross_the_wire_unchanged(call: wire.Call[object], value: object) -> None:
    assert wire.read_result(call, wire.write_result(call, value)) == value


def test_a_process_stays_what_it_is_when_another_version_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = wire.version()
    monkeypatch.setattr(metadata, "version", lambda name: "99.0")
    assert wire.version() == ours


def test_arguments_cross_the_wire_unchanged() -> None:
    system = sample_system()
    sent = wire.write_arguments(wire.Arguments(system=system, commit="x"))
    assert wire.read_arguments(wire.UP, sent) == {"system": system, "commit": "x", "lease_s": None}
    sources = {"a": Source(commit="c"), "b": Source(folder=Path("/f"))}
    sent = wire.write_arguments(wire.Arguments(name="n", sources=sources))
    assert wire.read_arguments(wire.FORK, sent) == {"name": "n", "sources": sources}
    sent = wire.write_arguments(wire.Arguments(name="n", since=Cursor(1.0, 2, 3)))
    assert wire.read_arguments(wire.WINDOW, sent)["since"] == Cursor(1.0, 2, 3)
    sent = wire.write_arguments(wire.Arguments(service="s", since=2.0))
    assert wire.read_arguments(wire.LOGS, sent) == {"service": "s", "sandbox": None, "since": 2.0}
    with pytest.raises(errors.SandboxError, match="cannot read a call of 'fork'"):
        wire.read_arguments(wire.FORK, b"{")


@pytest.mark.parametrize(
    "error",
    [
        errors.BaselineError("m", hint="h"),
        errors.SandboxGone("gone"),
        errors.SandboxTaken("m", hint="h"),
        errors.SandboxError("m"),
        errors.CheckoutError("m", hint="h"),
        errors.StoreError("m"),
        errors.ForkError("m", hint="h", service="s", stage="build", log=("a", "b")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_back_as_they_were(error: errors.SpurlineError) -> None:
    again = wire.error_of(wire.error_fields(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)


def test_the_socket_lies_near_or_in_a_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert socket_path(Path("/s")) == Path("/s/keeper.sock")
    deep = tmp_path / ("d" * 100)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    found = socket_path(deep)
    assert found.parent == tmp_path / "spurline"
    assert found != socket_path(deep / "other")
    private_folder(found)
    assert found.parent.stat().st_mode & 0o777 == 0o700
    found.parent.rmdir()
    found.parent.symlink_to(tmp_path)
    with pytest.raises(errors.StoreError, match="belongs to somebody else"):
        private_folder(found)


def test_the_ledger_knows_what_still_runs(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "started.jsonl")
    assert ledger.read() == ("", ())
    ledger.begin("owner")
    ledger.add(os.getpid())
    ledger.add(os.getppid())
    ledger.remove(os.getppid())
    with (tmp_path / "started.jsonl").open("a") as torn:
        torn.write('{"start": 1')
    owner, started = ledger.read()
    assert owner == "owner"
    assert [process.pid for process in started] == [os.getpid()]
    assert started[0].still_runs
    born = born_at(os.getpid())
    assert born is not None
    assert not type(started[0])(pid=os.getpid(), born=born - 10).still_runs


def test_what_was_started_before_the_machine_began_anew_is_not_taken_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "started.jsonl"
    ledger = Ledger(path)
    ledger.begin("owner")
    ledger.add(os.getpid())
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), "boot": "an earlier one"}), *rest]) + "\n")
    assert ledger.read() == ("owner", ())


async def test_together_raises_the_first_failure_and_waits_for_the_rest() -> None:
    undone = []

    async def slow() -> int:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            undone.append("slow")
        return 1

    async def failing() -> int:
        await asyncio.sleep(0)
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        await together([slow(), failing(), slow()])
    assert undone == ["slow", "slow"]
    assert await together([]) == []


async def test_an_unsplit_step_ends_although_its_caller_is_cancelled() -> None:
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def step() -> None:
        begun.set()
        await asyncio.sleep(0.01)
        ended.set()

    task = asyncio.create_task(unsplit(step()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_nobody_keeps_is_down_already(tmp_path: Path) -> None:
    driver = KeeperDriver(tmp_path / "keeper.sock")
    await driver.down()
    with pytest.raises(errors.SandboxError, match="no keeper answers"):
        await driver.create("x", ttl_s=1)
    await driver.aclose()


async def test_what_ends_as_it_is_asked_is_down_too(tmp_path: Path) -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_unix_server(end, tmp_path / "keeper.sock"):
        driver = KeeperDriver(tmp_path / "keeper.sock")
        await driver.down()
        with pytest.raises(errors.SandboxError, match="the keeper ended while 'create' was under way"):
            await driver.create("x", ttl_s=1)
        await driver.aclose()


def test_a_line_written_while_the_log_is_read_has_no_time_yet(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    path = tmp_path / "log"
    noted = log.note

    def written_meanwhile() -> None:
        noted()
        path.write_text("late\n")

    log.note = written_meanwhile  # type: ignore[method-assign]  # the moment between two reads of one file
    assert log.lines() == ()
    assert [line.text for line in log.lines()] == ["late"]
