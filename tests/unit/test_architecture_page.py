"""ARCHITECTURE.md shows the house as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from graphs.loop import picture

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()


def test_the_loop_is_drawn_from_the_compiled_graph() -> None:
    drawn = re.search(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
    assert drawn is not None
    assert drawn[1].strip() == picture().strip()


def test_every_file_that_it_names_is_there() -> None:
    named = set(re.findall(r"`((?:harness|graphs|sandbox|tasks|tui)/[\w./]+)`", PAGE))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
