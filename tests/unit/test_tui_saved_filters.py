"""tui.saved_filters: what the user keeps stays as he wrote it, and what cannot be used is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tui.saved_filters import SavedFilters, filters_file


def test_it_lies_in_the_configuration_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert filters_file() == tmp_path / "spurline" / "filters.yaml"


def test_kept_and_dropped(tmp_path: Path) -> None:
    saved = SavedFilters(tmp_path / "deep" / "filters.yaml")
    assert saved.read() == {}
    saved.keep("money: mine", "service:payments is:attention")
    saved.keep("no", "!state:failed")
    saved.keep("no", "state:failed # not a comment")
    again = SavedFilters(saved.path)
    assert again.read() == {"money: mine": "service:payments is:attention", "no": "state:failed # not a comment"}
    again.drop("money: mine")
    again.drop("nothing")
    assert saved.read() == {"no": "state:failed # not a comment"}
    assert [one.name for one in saved.path.parent.iterdir()] == ["filters.yaml"]


def test_what_the_user_wrote_stays(tmp_path: Path) -> None:
    saved = SavedFilters(tmp_path / "filters.yaml")
    saved.path.write_text("# mine\nusers: users  # all of them\n")
    saved.keep("orders", "orders")
    assert saved.path.read_text() == "# mine\nusers: users  # all of them\norders: orders\n"


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [b]\n", "a: 1\n", "a: {\n", "\x00"])
def test_a_file_that_cannot_be_used_is_named_and_left(tmp_path: Path, text: str) -> None:
    saved = SavedFilters(tmp_path / "filters.yaml")
    saved.path.write_text(text)
    for act in (saved.read, lambda: saved.keep("a", "b"), lambda: saved.drop("a")):
        with pytest.raises(ConfigError, match=r"filters\.yaml"):
            act()
    assert saved.path.read_text() == text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        SavedFilters(tmp_path / "file" / "filters.yaml").keep("a", "b")
