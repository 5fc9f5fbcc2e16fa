"""Everything but the screen itself runs where Textual cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = "project: t\nbaseline: {entry: web, services: {web: {command: [a]}}}\n"
WITHOUT = (
    "import sys; sys.modules['textual'] = None; from harness.cli.errors import guarded; sys.exit(guarded(sys.argv[1:]))"
)


@pytest.mark.parametrize("module", ["harness.cli.progress", "tui.fleet"])
def test_the_fold_of_a_run_needs_no_textual(module: str) -> None:
    code = f"import sys; sys.modules['textual'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_stands_first_waits_for_no_page_no_dialog_and_no_store() -> None:
    later = ("pydantic", "pygments", "sqlalchemy", "tui.agent_screen", "tui.dialogs", "harness.settings")
    code = f"import sys, harness.cli.tui, tui.terminal; print([name for name in {later} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "tui"),
        (["runs", "list"], 0, "there are no runs yet"),
        (["tui", "--plain"], 2, "there is no run 'last'"),
    ],
)
def test_what_needs_no_textual(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    (tmp_path / "spurline.yaml").write_text(SETTINGS)
    argv = [sys.executable, "-c", WITHOUT, *words]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
