"""Folders that last no longer than their maker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.repository.scratch import Scratch
from tasks.errors import CheckoutError

MAKER = """
import pathlib, sys
from harness.repository.scratch import Scratch
scratch = Scratch.make(pathlib.Path(sys.argv[1]), "work")
(scratch.path / "file").write_text("x")
print(scratch.path, flush=True)
sys.stdin.read()
"""


def test_what_is_in_use_stays_and_what_a_killed_maker_left_goes(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MAKER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        mine = Scratch.make(tmp_path, "work")
        assert (theirs / "file").read_text() == "x"
        other.kill()
    assert theirs.exists()
    more = Scratch.make(tmp_path, "tree")
    assert {path.name for path in tmp_path.iterdir()} == {mine.path.name, more.path.name}
    mine.remove()
    more.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckoutError, match="file' cannot be written"):
        Scratch.make(tmp_path / "file", "work")
