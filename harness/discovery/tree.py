"""A repository's files, read with care: only below the root, no links out of it, a bounded number of bounded files.

What discovery reads was written by strangers: whatever is too big, no text or unreadable is left out and noted, and
nothing here raises for it.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MAX_FILES: Final = 20_000
MAX_FILE_BYTES: Final = 512 * 1024
MAX_TOTAL_BYTES: Final = 64 * 1024 * 1024
MAX_DEPTH: Final = 12

SKIPPED_FOLDERS: Final = frozenset(
    {
        ".git", ".hg", ".svn", ".spurline", ".venv", "venv", "env", "node_modules", "vendor", "third_party", "target",
        "dist", "build", "out", "__pycache__", ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".idea",
        ".vscode", ".gradle", ".next", ".terraform", "testdata", "fixtures",
    }
)  # fmt: skip


class Tree:
    """The files of one repository. All paths are posix and relative to `root`; listed in the order of their paths."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[str] = []
        self._read_bytes = 0
        self._texts: dict[str, str | None] = {}
        self._files = tuple(sorted(self._walk()))
        self._known = frozenset(self._files)

    @property
    def files(self) -> tuple[str, ...]:
        return self._files

    def matching(self, *patterns: str) -> list[str]:
        """The files whose name (not path) matches one of the shell patterns."""
        return [path for path in self._files if any(fnmatch.fnmatch(path.rpartition("/")[2], p) for p in patterns)]

    def below(self, folder: str, *suffixes: str) -> list[str]:
        """The files below `folder` (`.` is the root), with one of the suffixes where any is given."""
        files = self._files
        if folder not in ("", "."):
            prefix = folder.rstrip("/") + "/"
            # Sorted by path: what begins alike lies together. `0` comes right after `/`.
            files = files[bisect_left(files, prefix) : bisect_left(files, prefix[:-1] + "0")]
        return [path for path in files if not suffixes or path.endswith(suffixes)]

    def has(self, path: str) -> bool:
        return path in self._known

    def has_folder(self, path: str) -> bool:
        """Whether a real folder is there, skipped ones and untracked ones too, links not followed."""
        try:
            return stat.S_ISDIR((self.root / path).lstat().st_mode)
        except OSError:
            return False

    def text(self, path: str) -> str | None:
        """The text of a listed file; None where it is too big, no UTF-8 or cannot be read."""
        if path not in self._known:
            return None
        if path not in self._texts:
            self._texts[path] = self._read(path)
        return self._texts[path]

    def skip(self, path: str, why: str) -> None:
        """Note that a file could not be used."""
        self.notes.append(f"{path}: {why}; skipped")

    def _read(self, path: str) -> str | None:
        try:
            # Opened without following a link: the listing held none, and none may have come in between.
            descriptor = os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                size_bytes = os.fstat(descriptor).st_size
                if size_bytes > MAX_FILE_BYTES or self._read_bytes + size_bytes > MAX_TOTAL_BYTES:
                    return None
                data = file.read(MAX_FILE_BYTES)
        except OSError as error:
            self.skip(path, f"cannot be read ({error.strerror})")
            return None
        self._read_bytes += len(data)
        if b"\0" in data:
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return None

    def _walk(self) -> Iterator[str]:
        count = 0
        for folder, folders, names in os.walk(self.root, followlinks=False):
            relative = os.path.relpath(folder, self.root)
            depth = 0 if relative == "." else relative.count(os.sep) + 1
            # A path that begins with `~` cannot be named in spurline.yaml.
            folders[:] = [
                name
                for name in sorted(folders)
                if name not in SKIPPED_FOLDERS and depth < MAX_DEPTH and not name.startswith("~")
            ]
            for name in sorted(names):
                path = name if relative == "." else f"{Path(relative).as_posix()}/{name}"
                if not path.isprintable() or not _is_plain_file(self.root / path):
                    continue
                if count >= MAX_FILES:
                    self.notes.append(f"looked at the first {MAX_FILES:,} files only")
                    return
                count += 1
                yield path


def _is_plain_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def line_of(text: str, offset: int) -> int:
    """The line, counted from 1, in which character `offset` stands."""
    return text.count("\n", 0, offset) + 1
