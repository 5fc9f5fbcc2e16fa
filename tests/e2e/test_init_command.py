"""`spurline init`, as a user runs it in a repository that nobody prepared."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.project import read_project

MakeRepo = Callable[[Mapping[str, str]], Path]
Spurline = Callable[..., Any]
FILES = {"Procfile": "web: cd web && python app.py --port $PORT\n", "web/app.py": "x = 1\n", ".gitignore": "*.log"}


def test_writes_a_file_that_reads_back_and_says_what_it_wrote(make_repo: MakeRepo, spurline: Spurline) -> None:
    root = make_repo(FILES)
    ran = spurline("init", cwd=root)
    assert (ran.code, ran.out) == (0, "")
    assert "wrote spurline.yaml, tickets/example.md, .gitignore" in ran.err
    assert (root / ".gitignore").read_text() == "*.log\n.spurline/\n"
    assert read_project(root).settings.baseline.services["web"].command == ("python", "app.py", "--port", "${port}")
    assert spurline("tickets", "lint", cwd=root).code == 0


def test_never_overwrites_unless_forced(make_repo: MakeRepo, spurline: Spurline) -> None:
    root = make_repo({**FILES, "spurline.yaml": "mine\n", "tickets/real.md": "also mine\n"})
    ran = spurline("init", cwd=root)
    assert ran.code == 2
    assert "spurline.yaml is there already" in ran.err
    assert (root / "spurline.yaml").read_text() == "mine\n"
    assert spurline("init", "--force", cwd=root).code == 0
    assert "web:" in (root / "spurline.yaml").read_text()
    assert not (root / "tickets" / "example.md").exists()


def test_print_writes_nothing(make_repo: MakeRepo, spurline: Spurline) -> None:
    root = make_repo(FILES)
    ran = spurline("init", "--print", cwd=root)
    assert ran.code == 0
    assert ran.out.startswith("# Written by `spurline init`")
    status = subprocess.run(["git", "status", "--porcelain"], cwd=root, check=True, capture_output=True, text=True)
    assert status.stdout == ""


def test_json_says_what_is_left(make_repo: MakeRepo, spurline: Spurline) -> None:
    root = make_repo({"README.md": "nothing here\n"})
    [said] = spurline("init", "--json", cwd=root).objects
    assert said["written"] == ["spurline.yaml", "tickets/example.md", ".gitignore"]
    assert (said["services"], said["entry"], said["problem"]) == ([], None, None)
    lines = (root / "spurline.yaml").read_text().splitlines()
    assert all(lines[todo["line"] - 1].strip() == todo["text"] for todo in said["todo"])
    assert any("command" in todo["text"] for todo in said["todo"])


def test_writes_through_no_link(make_repo: MakeRepo, spurline: Spurline, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "ignore").write_text("theirs\n")
    root = make_repo({"Procfile": "web: python app.py\n"})
    (root / "spurline.yaml").symlink_to(outside / "settings")
    (root / "tickets").symlink_to(outside)
    (root / ".gitignore").symlink_to(outside / "ignore")
    assert spurline("init", cwd=root).code == 2
    assert spurline("init", "--force", cwd=root).code == 0
    assert [path.name for path in outside.iterdir()] == ["ignore"]
    assert (outside / "ignore").read_text() == "theirs\n"


def test_outside_of_a_repository_it_says_what_to_do(tmp_path: Path, spurline: Spurline) -> None:
    ran = spurline("init", cwd=tmp_path)
    assert ran.code == 0
    assert "hint:" in ran.err
    assert "git" in ran.err
    assert spurline("--project", str(tmp_path / "nowhere"), "init", cwd=tmp_path).code == 2
