"""The one lock under which worktrees and references of a repository change, across tasks and across processes.

git's own locks fail at once where two of its commands meet; this one waits.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from sandbox.filelock import taken
from tasks.errors import CheckoutError

_POLL_S: Final = 0.02


class RepositoryLock:
    """Waits in turn among the tasks of this process, and by a file lock among processes. Not re-entrant.

    The file lock ends with the process that holds it, however that one dies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the lock for the block. CheckoutError when the lock's file cannot be written."""
        async with self._turn:
            handle = self._open()
            try:
                # Asking again instead of waiting in a thread: a cancelled waiter must not get the lock later.
                while not taken(handle):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
                yield
            finally:
                os.close(handle)

    def _open(self) -> int:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CheckoutError(
                f"{str(self._path)!r} cannot be written: {error.strerror}", hint="the state folder must be writable"
            ) from error
