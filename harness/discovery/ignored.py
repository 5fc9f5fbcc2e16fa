"""Folders that git does not track but a checkout needs: what `link:` is for.

Only plain folder names in `.gitignore` files are understood; patterns are left to the reader.
"""

from __future__ import annotations

import re

from harness.discovery.findings import Sourced
from harness.discovery.tree import Tree, line_of

_FOLDER = re.compile(r"^/?(?P<path>[\w.@-]+(?:/[\w.@-]+)*)/?(?:\*\*?)?[ \t]*$", re.MULTILINE)
_NEVER = frozenset({".git", ".spurline", "dist", "build", "out", "bin", "target", "coverage", "tmp", "log", "logs"})


def ignored_folders(tree: Tree) -> dict[str, Sourced[str]]:
    """Folders that are on disk and ignored by git, by path; build results, caches and logs left out."""
    found: dict[str, Sourced[str]] = {}
    places = sorted({path.rpartition("/")[0] for path in tree.files})
    for path in tree.matching(".gitignore"):
        text = tree.text(path) or ""
        base = path.rpartition("/")[0]
        for match in _FOLDER.finditer(text):
            name = match["path"]
            if name.rpartition("/")[2] in _NEVER or "cache" in name:
                continue
            source = f"{path}:{line_of(text, match.start())} keeps it out of git"
            anchored = "/" in name or match[0].startswith("/")
            for place in (
                [base] if anchored else [p for p in places if p == base or p.startswith(f"{base}/".lstrip("/"))]
            ):
                folder = f"{place}/{name}".lstrip("/")
                if tree.has_folder(folder):
                    found.setdefault(folder, Sourced(folder, source))
    return found
