"""Filters with names: a few that are always there, and the user's own, in a YAML file of names and filters.

The file is the user's: what is wrong with it is said, and then it is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from io import StringIO
from pathlib import Path
from typing import Final

from platformdirs import user_config_path
from ruamel.yaml import YAML

from tasks.errors import ConfigError
from tasks.yamlfile import parse, read_text

BUILT_IN: Final = {
    "needs attention": "is:attention",
    "stalled": "is:stalled",
    "failed": "state:failed",
    "failing verdict, still at work": "verdict:failed is:working",
    "idle": "is:idle",
}
"""Filters by name, as they would be typed."""
_HINT: Final = "the file holds a name and a filter a line, such as `payments: service:payments is:attention`"


def filters_file() -> Path:
    """Where the user's own are: `spurline/filters.yaml` in the configuration folder."""
    return user_config_path("spurline", appauthor=False) / "filters.yaml"


class SavedFilters:
    """The user's own filters by name, in the file's order. Every method raises ConfigError where the file cannot be
    used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, str]:
        """All of them; none where there is no file."""
        return {str(name): str(text) for name, text in self._known().items()}

    def keep(self, name: str, text: str) -> None:
        """Keep a filter under this name, in the place of one that has it."""
        known = self._known()
        known[name] = text
        self._write(known)

    def drop(self, name: str) -> None:
        """Forget one, where it is there."""
        known = self._known()
        if name in known:
            del known[name]
            self._write(known)

    def _known(self) -> MutableMapping[str, str]:
        """What stands there, with its comments."""
        if not self.path.exists():
            return {}
        found = parse(read_text(self.path), self.path)
        if found is None:
            return {}
        if not isinstance(found, MutableMapping) or not all(isinstance(text, str) for text in found.values()):
            raise ConfigError("it is no mapping of names to filters", path=self.path, hint=_HINT)
        return found

    def _write(self, known: MutableMapping[str, str]) -> None:
        """All of it or nothing: a full disk leaves what was there."""
        text = StringIO()
        YAML().dump(known, text)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.path.with_name(f".filters-{os.getpid()}")
            try:
                beside.write_text(text.getvalue(), encoding="utf-8")
                beside.replace(self.path)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"it cannot be written: {error.strerror}", path=self.path) from None
