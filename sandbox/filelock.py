"""A file lock, asked for and not waited for: it ends with the process that holds it, however that one dies."""

from __future__ import annotations

import fcntl


def taken(handle: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Whether the file lock of this kind could be had at once."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
