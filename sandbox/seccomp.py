"""What a cage keeps code from asking the kernel for: a share of somebody else's port.

Forks run as the user and in the user's network, since they talk to the baseline. Linux lets processes of one user
listen at one port together where each of them sets SO_REUSEPORT, as gRPC servers do without being told. A fork could do
so beside the baseline, or beside a neighbour's fork, and would be handed some of their requests. So inside of a cage
the option has no effect; to set it succeeds, since a program with one listener does not miss it.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html; the numbers are linux/audit.h's, those of
# the system calls asm/unistd.h's.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _LEVEL_AT, _OPTION_AT = 0, 4, 24, 32
_SOL_SOCKET, _SO_REUSEPORT = 1, 15
_IO_URING_SETUP: Final = 425
"""Sets options as well, and no filter sees it; programs know how to do without."""
_X32_CALLS: Final = 0x40000000
_MACHINES: Final = {"x86_64": (0xC000003E, 54), "aarch64": (0xC00000B7, 208)}
"""The architecture, and its number of setsockopt."""


def filter_program() -> bytes | None:
    """The program as the kernel takes it; None on a machine whose system calls are not known here."""
    known = _MACHINES.get(platform.machine())
    if known is None:
        return None
    architecture, setsockopt = known
    refuse, pretend, allow = 10, 11, 12
    steps = [
        (_LOAD, None, None, _ARCHITECTURE_AT),
        (_EQUAL, 2, refuse, architecture),
        (_LOAD, None, None, _NUMBER_AT),
        (_AT_LEAST, refuse, 4, _X32_CALLS),
        (_EQUAL, refuse, 5, _IO_URING_SETUP),
        (_EQUAL, 6, allow, setsockopt),
        (_LOAD, None, None, _LEVEL_AT),
        (_EQUAL, 8, allow, _SOL_SOCKET),
        (_LOAD, None, None, _OPTION_AT),
        (_EQUAL, pretend, allow, _SO_REUSEPORT),
        (_RETURN, None, None, _ERRNO | errno.ENOSYS),
        (_RETURN, None, None, _ERRNO),
        (_RETURN, None, None, _ALLOW),
    ]
    return b"".join(_packed(place, *step) for place, step in enumerate(steps))


@contextmanager
def filter_descriptors() -> Iterator[tuple[int, ...]]:
    """The descriptor from which bubblewrap reads the program, to be handed to it; none where there is no program."""
    program = filter_program()
    if program is None:
        yield ()
        return
    reading, writing = os.pipe()
    try:
        os.write(writing, program)
        os.close(writing)
        yield (reading,)
    finally:
        os.close(reading)


def _packed(place: int, code: int, if_true: int | None, if_false: int | None, value: int) -> bytes:
    """One `struct sock_filter`; jumps are given as places and written as distances."""
    ahead = [0 if to is None else to - place - 1 for to in (if_true, if_false)]
    return struct.pack("=HBBI", code, *ahead, value)
