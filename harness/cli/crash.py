"""Where the traceback of an error goes that is nobody's but ours: a file, for the report."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path


def write_crash(error: BaseException, argv: Sequence[str]) -> Path | None:
    """Write `error` into the project's `.spurline/`, else into the folder for temporary files; None if neither can.

    Neither the environment nor the values of arguments are written: a report is public.
    """
    lines = [
        f"spurline {version('spurline')}, Python {platform.python_version()}, {platform.platform()}",
        f"spurline {' '.join(_word(argument) for argument in argv)}",
        "".join(traceback.format_exception(error)),
    ]
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (*_states(argv), Path(tempfile.gettempdir())):
        if folder.is_dir():
            try:
                (folder / name).write_text("\n".join(lines), encoding="utf-8", errors="backslashreplace")
            except OSError:
                continue
            return folder / name
    return None


def _word(argument: str) -> str:
    """An option without its value, a command's word, or an ellipsis."""
    if argument.startswith("-"):
        return argument.partition("=")[0]
    return argument if re.fullmatch("[a-z]+", argument) else "…"


def _states(argv: Sequence[str]) -> list[Path]:
    """The `.spurline/` of the project that the command worked on: the nearest one from its folder upwards."""
    start = Path.cwd()
    for option, value in pairwise(argv):
        if option in ("-C", "--project"):
            start = start / value
    return [folder / ".spurline" for folder in (start, *start.parents)]
