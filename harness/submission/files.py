"""Where records lie, and how one is put there: whole, on the disk, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.submission.keys import SigningKey
from harness.submission.record import make_record
from tasks.errors import StoreError

RECORD_NAME: Final = "record.json"


def record_path(state: Path, run: str, ticket: str) -> Path:
    """Where the record of a ticket lies."""
    return state / "runs" / run / ticket / RECORD_NAME


def write_record(state: Path, document: Mapping[str, Any], key: SigningKey) -> Path:
    """Sign the verdict, whatever it concludes, and write its record; where it lies."""
    path = record_path(state, str(document["run"]), str(document["ticket"]))
    put(path, make_record(document, key))
    return path


def put(path: Path, content: bytes) -> str:
    """Put `content` in the place of `path`; it is on the disk when this returns. StoreError if it cannot be."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StoreError(
            f"{path} cannot be written: {error.strerror}", hint="see to that folder and the space on its disk"
        ) from error
    return str(path)


def found(path: Path, content: bytes) -> str | None:
    """The path, if exactly `content` lies there."""
    try:
        return str(path) if path.read_bytes() == content else None
    except OSError:
        return None
