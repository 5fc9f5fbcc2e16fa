"""Load on one hop, and what the hop makes of it: latencies, requests/s, CPU time.

As services call each other: many connections that stay open, each with one request in flight. The generator runs in a
process of its own; where there are two cores, the hop that is measured has the first one for itself.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import selectors
import socket
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

import psutil

WARM_UP: Final = 50
REQUESTS: Final = 500
CONNECTIONS: Final = 32
WARM_UP_S: Final = 0.2
LOAD_S: Final = 1.0
_BLOCK_BYTES: Final = 65536


@dataclass(frozen=True, slots=True)
class Case:
    """One way through a hop: where to, with which headers, and by whom (process id) it is carried."""

    name: str
    over: str
    """The case that it is compared with."""
    port: int
    pid: int
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = "/orders/17"

    @property
    def request(self) -> bytes:
        lines = [f"GET {self.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Accept: */*"]
        return "\r\n".join([*lines, *(f"{k}: {v}" for k, v in self.headers.items()), "", ""]).encode()


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one case."""

    p50_us: float
    """One connection, one request at a time."""
    p99_us: float
    requests_per_s: float
    """Under the load of all connections."""
    cpu_us: float
    """The hop's CPU time a request, user and kernel."""
    core: float
    """How much of one core the hop used."""
    idle: float
    """How much of the time its core had nothing to do: what is then missing to a whole core went to other programs.
    A saturated hop's core is never idle."""

    @property
    def requests_per_core_s(self) -> float:
        """What a second of one core's time is enough for."""
        return 1e6 / self.cpu_us


def connected(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def sample(case: Case) -> Sample:
    """Measure one case. Every answer has to be a 200 with the same body as the first."""
    with connected(case.port) as line:
        body = _first_body(line, case)
        latencies = sorted(_latencies_us(line, case, body))
    return Sample(statistics.median(latencies), latencies[int(len(latencies) * 0.99)], *_load(case, body))


def _first_body(line: socket.socket, case: Case) -> bytes:
    line.sendall(case.request)
    answer = b""
    while True:
        answer += _received(line, case)
        head, found, body = answer.partition(b"\r\n\r\n")
        if not found:
            continue
        fields = dict(each.lower().split(b": ", 1) for each in head.split(b"\r\n")[1:])
        if not head.startswith(b"HTTP/1.1 200") or b"content-length" not in fields:
            raise SystemExit(f"{case.name}: {answer[:300]!r}")
        if len(body) == int(fields[b"content-length"]):
            return body


def _latencies_us(line: socket.socket, case: Case, body: bytes) -> list[float]:
    found = []
    for _ in range(WARM_UP + REQUESTS):
        started = time.perf_counter()
        line.sendall(case.request)
        answer = b""
        while not answer.endswith(body):
            answer += _received(line, case)
        found.append((time.perf_counter() - started) * 1e6)
        _approve(answer, case)
    return found[WARM_UP:]


def _load(case: Case, body: bytes) -> tuple[float, float, float, float]:
    """Requests/s, the hop's CPU time a request in microseconds, the share of a core that it used, and its core's
    idle share."""
    hop, request = psutil.Process(case.pid), case.request
    rest: dict[int, bytes] = {}
    with ExitStack() as stack:
        ready = stack.enter_context(selectors.DefaultSelector())
        for _ in range(CONNECTIONS):
            line = stack.enter_context(connected(case.port))
            ready.register(line, selectors.EVENT_READ, line)
            line.sendall(request)
        answered, first, cpu, idle, warm = 0, 0, 0.0, 0.0, False
        begun = since = time.perf_counter()
        while (now := time.perf_counter()) < since + LOAD_S or not warm:
            if not warm and now > begun + WARM_UP_S:
                first, cpu, idle, since, warm = answered, sum(hop.cpu_times()[:2]), _idle_s(hop), now, True
            for key, _ in ready.select(1):
                line = key.data
                answer = rest.pop(key.fd, b"") + _received(line, case)
                if not answer.endswith(body):
                    rest[key.fd] = answer
                    continue
                _approve(answer, case)
                answered += 1
                line.sendall(request)
        used, idle = sum(hop.cpu_times()[:2]) - cpu, _idle_s(hop) - idle
        took, count = now - since, answered - first
    return count / took, used / count * 1e6, used / took, idle / took


def _idle_s(hop: psutil.Process) -> float:
    """Idle time of the cores that the hop may use, on average."""
    times = psutil.cpu_times(percpu=True)
    cores = hop.cpu_affinity() if platform.system() == "Linux" else range(len(times))
    return statistics.mean(times[core].idle for core in cores)


def _received(line: socket.socket, case: Case) -> bytes:
    block = line.recv(_BLOCK_BYTES)
    if not block:
        raise SystemExit(f"{case.name}: the hop closed a connection")
    return block


def _approve(answer: bytes, case: Case) -> None:
    if not answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"{case.name}: {answer[:300]!r}")


@contextmanager
def generator(*, hops: Iterable[int], others: Iterable[int]) -> Iterator[ProcessPoolExecutor]:
    """A process that samples. `hops` and `others` (the services behind them) are process ids: they are kept apart,
    where the system lets us."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pids = (*others, os.getpid(), pool.submit(os.getpid).result())
        cores = os.sched_getaffinity(0) if platform.system() == "Linux" else set[int]()
        if len(cores) > 1:
            first = min(cores)
            _pin(hops, {first})
            _pin(pids, cores - {first})
        yield pool


def _pin(pids: Iterable[int], cores: set[int]) -> None:
    for pid in pids:
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, cores)
