"""The wheel holds exactly the five packages, their data, and the bundled shop."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_top_level_names(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"harness", "graphs", "sandbox", "tui", "tasks"}


@pytest.mark.parametrize(
    "name",
    [
        "harness/py.typed",
        "harness/report/templates/page.html",
        "harness/report/templates/page.css",
        "harness/store/migrations/versions/0001_first.py",
        "sandbox/router/normaliser.lua",
        "sandbox/local/watchdog.py",
        "tui/served.html",
        "tui/served.js",
        "tasks/bundled/shop/spurline.yaml",
        "tasks/bundled/shop/tickets/users-v2.md",
        "tasks/bundled/shop/recordings/users-v2.yaml",
    ],
)
def test_data_is_there(names: set[str], name: str) -> None:
    assert name in names


def test_nothing_else_is_shipped(names: set[str]) -> None:
    assert not [name for name in names if "__pycache__" in name or name.endswith((".db", ".pyc"))]
