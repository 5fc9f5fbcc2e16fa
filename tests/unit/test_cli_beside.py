"""The terminal on which a screen is shown beside a run: a run ends as it ended, whatever became of it."""

from __future__ import annotations

import io
import os
import sys

import pytest

from harness.cli.beside import _as_it_was, watched_by_a_person
from harness.cli.output import Output


def test_a_terminal_that_went_away_under_the_screen_is_not_put_right(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "r") as terminal, os.fdopen(os.dup(theirs), "w") as out:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys, "stdout", out)
        with _as_it_was():
            os.close(ours)
        monkeypatch.undo()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("env", "json", "stderr", "watched"),
    [
        ({}, False, Terminal(), True),
        ({"CI": "true"}, False, Terminal(), False),
        ({"TERM": "dumb"}, False, Terminal(), False),
        ({}, True, Terminal(), False),
        ({}, False, io.StringIO(), False),
    ],
    ids=["terminal", "CI", "dumb", "json", "file"],
)
def test_it_is_for_a_person_at_a_terminal_that_can_show_more_than_lines(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], json: bool, stderr: io.StringIO, watched: bool
) -> None:
    monkeypatch.delenv("CI", raising=False)
    for name, value in {"TERM": "xterm", **env}.items():
        monkeypatch.setenv(name, value)
    assert watched_by_a_person(Output(json=json, stdout=io.StringIO(), stderr=stderr)) == watched
