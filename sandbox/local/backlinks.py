"""Whether a linked folder leads back into the work tree: by an editable install of Python's, or a workspace of Node's.

What is started with such a folder may run the work tree's code, whichever commit it is of.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SITES: Final = ("lib/python*/site-packages", "Lib/site-packages")
_QUOTED: Final = re.compile(r"""['"](/[^'"\n]+)['"]""")
_SIZE_LIMIT_BYTES: Final = 1024 * 1024


def leads_back(folder: Path, worktree: Path) -> Path | None:
    """The file or symlink in `folder` that leads to code of the work tree; None where there is none in the places where
    package managers put them."""
    own, tree = Path(os.path.realpath(folder)), Path(os.path.realpath(worktree))

    def is_code(path: str) -> bool:
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(tree) or target.is_relative_to(own):
            return False
        return "node_modules" not in target.relative_to(tree).parts

    return next((place for place, path in _ways(own) if is_code(path)), None)


def _ways(folder: Path) -> Iterator[tuple[Path, str]]:
    """What may lead out of the folder, and where to."""
    for site in (site for pattern in _SITES for site in folder.glob(pattern)):
        for place in sorted((*site.glob("*.pth"), *site.glob("*.egg-link"))):
            yield from ((place, line.strip()) for line in _text(place).splitlines() if line.startswith("/"))
        for place in sorted(site.glob("__editable__*.py")):
            yield from ((place, path) for path in _QUOTED.findall(_text(place)))
    if folder.name == "node_modules":
        packages = sorted((*folder.glob("*"), *folder.glob("@*/*")))
        yield from ((place, str(place)) for place in packages if place.is_symlink())


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace") if path.stat().st_size <= _SIZE_LIMIT_BYTES else ""
    except OSError:
        return ""
