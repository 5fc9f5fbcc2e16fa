"""The watching side of `harness.commands`: a command's pipes, its capped output, and the reaper of groups.

Threads call these, one a command; nothing here knows an event loop.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

# A background child may hold the pipe open for ever; after the leader's end it gets this long to let go.
_LINGER_S: Final = 0.5
# How often a leader is looked at where the kernel has no pidfd.
_TICK_S: Final = 0.1
_CHUNK_BYTES: Final = 65_536

MARK: Final = "SPURLINE_COMMANDS_OF"
"""In the environment of every command: who was started in the very moment of our death is found by it."""

# Reads "+ GROUP" and "- GROUP" lines; the end of its input means that we died. (dash's kill knows no `--`.)
# A command may have begun and not been told of yet, or may have left its group: those are found by their mark ($1),
# where there is a /proc.
_REAP: Final = """
live=
while read -r op group; do
  case $op in
    +) live="$live $group" ;;
    -) rest=
       for each in $live; do [ "$each" = "$group" ] || rest="$rest $each"; done
       live=$rest ;;
  esac
done
for group in $live; do kill -KILL "-$group"; done
for environ in /proc/[0-9]*/environ; do
  if grep -qs "$1" "$environ"; then
    pid=${environ#/proc/}
    kill -KILL "${pid%/environ}"
  fi
done
"""


class Capture:
    """A stream of bytes as text: its head and its tail, `limit` bytes in all, and what was left out counted."""

    def __init__(self, limit: int) -> None:
        self._head_limit, self._tail_limit = limit // 3, limit - limit // 3
        self._head, self._tail = bytearray(), bytearray()
        self._total = 0

    def add(self, chunk: bytes) -> None:
        self._total += len(chunk)
        room = self._head_limit - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        if len(self._tail) > 2 * self._tail_limit + _CHUNK_BYTES:
            del self._tail[: -self._tail_limit]

    def text(self) -> str:
        left_out = self._total - self._head_limit - self._tail_limit
        if left_out <= 0:
            return (self._head + self._tail).decode(errors="replace")
        head = self._head.decode(errors="replace")
        tail = self._tail[-self._tail_limit :].decode(errors="replace")
        return f"{head}\n… {left_out} bytes left out …\n{tail}"


def pump(
    process: subprocess.Popen[bytes],
    stdin: bytes | None,
    capture: Capture,
    *,
    deadline: float,
    end_group: Callable[[], None],
) -> bool:
    """Feed and read `process` until its leader has ended; whether that was before `deadline` (monotonic).

    The leader is left unreaped, so that its group's number stays its own until the caller has killed the group."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector, _pidfd(process.pid) as pidfd:
        os.set_blocking(process.stdout.fileno(), False)
        selector.register(process.stdout, selectors.EVENT_READ, "out")
        if pidfd is not None:
            selector.register(pidfd, selectors.EVENT_READ, "end")
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE, memoryview(stdin or b""))
        in_time = _until_end(selector, process, capture, deadline)
        end_group()
        _drain(selector, process, capture)
    return in_time


def _until_end(
    selector: selectors.BaseSelector, process: subprocess.Popen[bytes], capture: Capture, deadline: float
) -> bool:
    has_pidfd = any(key.data == "end" for key in selector.get_map().values())
    while (left_s := deadline - time.monotonic()) > 0:
        if not selector.get_map():
            # Everything is closed but the leader goes on, and there is no pidfd to wait for.
            time.sleep(min(left_s, _TICK_S))
        for key, _ in selector.select(left_s if has_pidfd else min(left_s, _TICK_S)) if selector.get_map() else ():
            if key.data == "end":
                return True
            if key.data == "out":
                _read(selector, process, capture)
            else:
                _write(selector, key, process)
        if not has_pidfd and _has_ended(process.pid):
            return True
    return False


def _read(selector: selectors.BaseSelector, process: subprocess.Popen[bytes], capture: Capture) -> bool:
    assert process.stdout is not None
    try:
        chunk = os.read(process.stdout.fileno(), _CHUNK_BYTES)
    except BlockingIOError:
        return True
    if not chunk:
        selector.unregister(process.stdout)
        return False
    capture.add(chunk)
    return True


def _write(selector: selectors.BaseSelector, key: selectors.SelectorKey, process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    rest: memoryview = key.data
    try:
        written = os.write(process.stdin.fileno(), rest[:_CHUNK_BYTES]) if rest else 0
    except BrokenPipeError:
        rest, written = memoryview(b""), 0
    if written == len(rest):
        selector.unregister(process.stdin)
        process.stdin.close()
    else:
        selector.modify(process.stdin, selectors.EVENT_WRITE, rest[written:])


def _drain(selector: selectors.BaseSelector, process: subprocess.Popen[bytes], capture: Capture) -> None:
    """What is still in the pipe, and no longer than a moment."""
    assert process.stdout is not None
    for key in list(selector.get_map().values()):
        if key.data != "out":
            selector.unregister(key.fileobj)
    until = time.monotonic() + _LINGER_S
    while selector.get_map() and (left_s := until - time.monotonic()) > 0:
        if selector.select(left_s):
            _read(selector, process, capture)


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Reaper:
    """One `sh` that kills the groups of running commands when we are gone, however we went (SIGKILL too)."""

    def __init__(self, pipe: int, mark: str) -> None:
        self.mark = mark
        """What the environment of every command must hold under the name `MARK`."""
        self._pipe = pipe
        self._lock = threading.Lock()

    @classmethod
    def start(cls) -> Reaper:
        """Start it; it ends by itself with our end of the pipe."""
        ours, theirs = _pipe()
        mark = secrets.token_hex(8)
        try:
            # In a group of its own: the terminal's Ctrl-C must not reach it before it has done its work.
            os.posix_spawn(
                "/bin/sh",
                ["/bin/sh", "-c", _REAP, "reaper", f"{MARK}={mark}"],
                {"PATH": os.defpath},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setpgroup=0,
            )
        finally:
            os.close(theirs)
        return cls(ours, mark)

    def watch(self, group: int) -> None:
        """From now on the group dies with us."""
        self._tell(f"+ {group}\n")

    def forget(self, group: int) -> None:
        """The group has ended."""
        self._tell(f"- {group}\n")

    def _tell(self, line: str) -> None:
        # A reaper that somebody killed protects no longer, but must not break the command either.
        with self._lock, contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, line.encode())


def _pipe() -> tuple[int, int]:
    theirs, ours = os.pipe()
    return ours, theirs
