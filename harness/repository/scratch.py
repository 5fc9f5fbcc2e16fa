"""Folders that last no longer than their maker, however it dies: each is locked while somebody uses it, and whoever
makes one removes, beside it, what nobody holds any more."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sandbox.filelock import taken
from tasks.errors import CheckoutError


@dataclass(frozen=True, slots=True)
class Scratch:
    """A folder of this process's own."""

    path: Path
    _handle: int

    @classmethod
    def make(cls, below: Path, name: str) -> Self:
        """An empty folder `NAME-…` below `below`, which holds nothing but such folders. CheckoutError where it cannot
        be made."""
        try:
            below.mkdir(parents=True, exist_ok=True, mode=0o700)
            sweep(below)
            while True:
                path = below / f"{name}-{secrets.token_hex(8)}"
                path.mkdir(mode=0o700)
                # Whoever sweeps may come between the two.
                if (handle := _held(path)) is not None:
                    return cls(path, handle)
        except OSError as error:
            raise CheckoutError(
                f"{str(below)!r} cannot be written: {error.strerror}", hint="the state folder must be writable"
            ) from error

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._handle)


def sweep(below: Path) -> None:
    """Remove what nobody holds any more. OSError where it cannot be looked for."""
    for path in below.iterdir() if below.is_dir() else ():
        if (handle := _held(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(handle)


def _held(path: Path) -> int | None:
    """A lock on the folder; None where somebody else has it, or where it is gone by then."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not taken(handle) or not path.exists():
        os.close(handle)
        return None
    return handle
