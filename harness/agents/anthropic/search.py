"""Search the files of a work tree for a regular expression. A program of its own, that imports nothing of ours.

    python search.py PATTERN PATH         in the root of the work tree; PATH is relative to it

Prints `path:line:text`; exits 0 when something was found, 1 when nothing was, 2 when it could not search.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator

_MAX_HITS = 500
# Longer lines are generated, and slow to match.
_MAX_LINE_CHARS = 2_000
_BINARY_PROBE_BYTES = 1_024


def files_below(path: str) -> Iterator[str]:
    """The files that git tracks or would track; all files where there is no git."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", path]
    try:
        found = subprocess.run(listing, capture_output=True, check=False)
    except OSError:
        found = None
    if found is not None and found.returncode == 0:
        # A file in conflict is listed once a version.
        yield from dict.fromkeys(os.fsdecode(name) for name in found.stdout.split(b"\0") if name)
        return
    if os.path.isfile(path):  # noqa: PTH113 - pathlib costs as much as the search itself
        yield path
    for folder, names, files in os.walk(path):
        names[:] = sorted(name for name in names if name != ".git")
        yield from (os.path.normpath(os.path.join(folder, name)) for name in sorted(files))  # noqa: PTH118


def hits(expression: re.Pattern[str], files: Iterable[str]) -> Iterator[str]:
    """The lines that match. Links are not followed: they may lead out of the work tree."""
    for name in files:
        if os.path.islink(name) or not os.path.isfile(name):  # noqa: PTH113, PTH114
            continue
        try:
            with open(name, "rb") as file:  # noqa: PTH123
                if b"\0" in file.read(_BINARY_PROBE_BYTES):
                    continue
                file.seek(0)
                for number, raw in enumerate(file, 1):
                    line = raw.decode(errors="replace").rstrip("\r\n")
                    if len(line) <= _MAX_LINE_CHARS and expression.search(line):
                        yield f"{name}:{number}:{line}"
        except OSError:
            continue


def main() -> int:
    pattern, path = sys.argv[1:3]
    count = 0
    for count, hit in enumerate(hits(re.compile(pattern), files_below(path)), 1):
        if count > _MAX_HITS:
            print(f"… more than {_MAX_HITS} lines match: narrow the search")  # noqa: T201
            break
        print(hit)  # noqa: T201
    return 0 if count else 1


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]  # a real stdout, always
    sys.exit(main())
