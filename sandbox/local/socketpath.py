"""Where a keeper's socket lies: in its state folder, or, where that path is too long for a socket, in a private folder
of the user's under a short name. Both ends compute the same place from the state folder alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from tasks.errors import StoreError

_LONGEST_BYTES: Final = 100
"""Socket addresses hold 108 bytes on Linux, 104 on macOS, the ending zero included."""


def socket_path(state: Path) -> Path:
    """The socket of the keeper of this state folder; nothing is created."""
    near = state.absolute() / "keeper.sock"
    if len(os.fsencode(near)) <= _LONGEST_BYTES:
        return near
    digest = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:16]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime) / "spurline" / f"{digest}.sock"
    return Path(tempfile.gettempdir()) / f"spurline-{os.getuid()}" / f"{digest}.sock"


def private_folder(socket: Path) -> None:
    """Make the socket's folder, for the user only; StoreError where somebody else has put one there."""
    folder = socket.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StoreError(
            f"{str(folder)!r} belongs to somebody else, so no socket can be put there safely",
            hint="remove it, or set XDG_RUNTIME_DIR to a folder of your own",
        )
    folder.chmod(0o700)
