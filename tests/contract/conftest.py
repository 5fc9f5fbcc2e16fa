"""What the store's contract is run on: both databases, by the same tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where the store is: every promise holds for both."""
    if request.param == "sqlite":
        return tmp_path / "spurline.db"
    url: str = request.getfixturevalue("postgres_url")
    return url
