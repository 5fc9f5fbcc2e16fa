"""A real file system of a few megabytes, made without root, and commands that run where it is mounted."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.processes import end, wait_for

_FILLER: Final = "filler"
_FILL = """
import os, sys
path, left = sys.argv[1], int(sys.argv[2])
with open(path, "ab", buffering=0) as file:
    while (free := os.statvfs(path).f_bavail * os.statvfs(path).f_bsize - left) > 0:
        file.write(b"0" * min(free, 1 << 20))
"""


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """The file system at `path`. Only what `run` starts sees it: all others see the empty folder below."""

    path: Path
    _shell: subprocess.Popen[str]
    _beside: Path

    def run(self, *argv: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Run a command to its end; its exit code and what it said."""
        out, err = self._beside / "out", self._beside / "err"
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        words = shlex.join(["env", "-C", str(cwd), *(f"{k}={v}" for k, v in (env or {}).items()), *map(str, argv)])
        self._shell.stdin.write(
            f"{words} >{shlex.quote(str(out))} 2>{shlex.quote(str(err))} </dev/null; echo code=$?\n"
        )
        self._shell.stdin.flush()
        code = wait_for("code=", self._shell.stdout)
        return int(code.removeprefix("code=")), out.read_text(), err.read_text()

    def fill(self, left_bytes: int = 0) -> None:
        """Leave so much free."""
        self.run(sys.executable, "-c", _FILL, self.path / _FILLER, str(left_bytes), cwd=self.path)

    def free(self) -> None:
        """Take the filler away."""
        self.run("rm", "-f", self.path / _FILLER, cwd=self.path)


def ways(path: Path, size_bytes: int) -> Iterator[list[str]]:
    """Command lines of a shell that alone sees such a file system at `path`."""
    if bwrap := shutil.which("bwrap"):
        yield [bwrap, "--dev-bind", "/", "/", "--size", str(size_bytes), "--tmpfs", str(path), "--", "/bin/sh"]
    if unshare := shutil.which("unshare"):
        mount = 'mount -t tmpfs -o size="$1" none "$0" && exec /bin/sh'
        yield [unshare, "-rm", "/bin/sh", "-c", mount, str(path), str(size_bytes)]


@contextmanager
def small_disk(path: Path, size_bytes: int, beside: Path) -> Iterator[SmallDisk | None]:
    """The file system, mounted at the folder `path`; None where nobody may. `beside` is a folder elsewhere."""
    for argv in ways(path, size_bytes):
        if subprocess.run(argv, input="exit 0\n", text=True, capture_output=True, check=False).returncode == 0:
            break
    else:
        yield None
        return
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        try:
            yield SmallDisk(path, shell, beside)
        finally:
            end(shell)
