"""Variables of a compose file: their defaults, and the values of an `.env` file that git tracks.

An `.env` file that `.gitignore` names may hold secrets: what stands in it must not find its way into `spurline.yaml`.
"""

from __future__ import annotations

import posixpath
import re
from typing import Final

from harness.discovery.tree import Tree

_REFERENCE = re.compile(r"\$(?:\$|(?P<bare>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?P<rest>:?[-?+][^{}]*)?\})")
_ASSIGNMENT = re.compile(r"^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_]\w*)[ \t]*=(?P<value>[^\n]*)$", re.MULTILINE)
_IGNORED = re.compile(r"^/?(?:\*\*/)?(?:\*?\.env\*?)[ \t]*$", re.MULTILINE)
_MAX_CHARS: Final = 4096


class Variables:
    """The variables of the compose file in `folder`."""

    def __init__(self, tree: Tree, folder: str) -> None:
        self._known: dict[str, str] = {}
        path = posixpath.join(folder, ".env")
        ignores = [tree.text(posixpath.join(place, ".gitignore")) or "" for place in {"", folder}]
        if tree.has(path) and any(_IGNORED.search(text) for text in ignores):
            tree.notes.append(f"{path}: kept out of git, so not read")
            return
        for match in _ASSIGNMENT.finditer(tree.text(path) or ""):
            value = self.filled(match["value"].strip().strip("\"'"))
            if value is not None:
                self._known[match["name"]] = value

    def lookup(self, name: str) -> str | None:
        """The value of a variable; None where nothing tracked says it."""
        return self._known.get(name)

    def filled(self, text: str) -> str | None:
        """`text` with its variables replaced; None where one has neither value nor default."""
        missing = False

        def value(match: re.Match[str]) -> str:
            nonlocal missing
            if match[0] == "$$":
                return "$"
            known = self._known.get(match["bare"] or match["name"])
            if known is not None:
                return known
            rest = match["rest"] or ""
            if rest.lstrip(":").startswith("-"):
                return rest.lstrip(":")[1:]
            missing = True
            return ""

        replaced = _REFERENCE.sub(value, text)
        return None if missing or len(replaced) > _MAX_CHARS else replaced
