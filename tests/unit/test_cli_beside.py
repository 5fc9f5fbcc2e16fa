"""The terminal on which a screen is shown beside a run: a run ends as it ended, whatever became of it."""

from __future__ import annotations

import os
import sys

import pytest

from harness.cli.beside import _as_it_was


def test_a_terminal_that_went_away_under_the_screen_is_not_put_right(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "r") as terminal, os.fdopen(os.dup(theirs), "w") as out:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys, "stdout", out)
        with _as_it_was():
            os.close(ours)
        monkeypatch.undo()
