"""Text from outside as it may be drawn: plain, no line too long, never markup."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from rich.text import Text

from tasks.errors import SpurlineError
from tasks.text import capped, one_line, plain

_LONG_LINE: Final = 600
_WRONG: Final = 300
_STYLES: Final[Mapping[str, str]] = {
    "verified": "green",
    "failed": "red",
    "unproven": "yellow",
    "needs_human": "bold magenta",
    "error": "bold red",
    "pass": "green",
    "fail": "red",
}


def clean(text: str) -> str:
    """`text` without what a terminal obeys, and no line so long that it hides the rest."""
    return "\n".join(capped(line, _LONG_LINE) if len(line) > _LONG_LINE else line for line in plain(text).split("\n"))


def clock(at: float) -> str:
    """A moment as local time."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def wrong(error: Exception) -> str:
    """Why something cannot be shown, in a line: our own errors in their words; all else is what damage comes to."""
    words = error.message if isinstance(error, SpurlineError) else f"damaged, or not known here: {error!r}"
    return one_line(words, _WRONG)


def styled(word: str, text: str | None = None) -> Text:
    """A state or an outcome in its colour, or another text in it."""
    return Text.assemble((text if text is not None else word, _STYLES.get(word, "default")))
