"""The installed `spurline` as a program: it starts light, helps, completes, and refuses what it does not know."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Spurline = Callable[..., Any]
MakeRepo = Callable[[Mapping[str, str]], Path]

SETTINGS = """\
project: tiny
baseline:
  entry: web
  services:
    web: {command: ["python3", "-m", "http.server", "${port}"]}
"""
TICKET = "---\nid: {id}\ntitle: Make it so\nservices: [web]\n---\nPlease.\n"
HEAVY = ("anthropic", "langgraph", "sqlmodel", "sqlalchemy", "httpx", "rich", "textual", "cryptography", "uvicorn")


@pytest.mark.parametrize("arguments", [["--help"], ["tickets", "list"], ["--version"], ["sandbox", "--help"]])
def test_light_commands_import_nothing_heavy(make_repo: MakeRepo, arguments: list[str]) -> None:
    root = make_repo({"spurline.yaml": SETTINGS, "tickets/a.md": TICKET.format(id="a")})
    program = (
        f"import sys; sys.argv = ['spurline', *{arguments!r}]\n"
        "from harness.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "loaded = sorted(name for name, module in sys.modules.items() if module is not None)\n"
        f"print([name for name in loaded if name in {HEAVY!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_help_names_the_commands_but_not_the_hidden_one(spurline: Spurline, tmp_path: Path) -> None:
    done = spurline("--help", cwd=tmp_path)
    assert done.code == 0
    for name in ("baseline", "sandbox", "request", "tickets"):
        assert f"\n  {name} " in done.out
    assert "keeper" not in done.out
    assert done.err == ""


def test_a_baseline_that_comes_up_tells_how_far_it_is_and_stdout_is_data(
    spurline: Spurline, make_repo: MakeRepo
) -> None:
    root = make_repo({"spurline.yaml": SETTINGS.replace("web: {", 'web: {build: "sleep 1", ')})
    up = spurline("baseline", "up", "--json", cwd=root)
    try:
        assert up.code == 0, up.err
        (document,) = up.objects
        assert document["up"] is True
        told = [line for line in up.err.splitlines() if line.startswith("  web ")]
        assert told[0] == "  web building"
        assert told[-1].startswith("  web ready after ")
    finally:
        spurline("baseline", "down", cwd=root)


def test_version(spurline: Spurline, tmp_path: Path) -> None:
    done = spurline("--version", cwd=tmp_path)
    assert (done.code, done.out.split()[0]) == (0, "spurline")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["tickts"], "there is no command 'tickts'", "did you mean `spurline tickets`?"),
        (["sandboxes"], "there is no command 'sandboxes'", "did you mean `spurline sandbox`?"),
        (["xyzzy"], "there is no command 'xyzzy'", "`spurline --help` lists the commands"),
        (["tickets", "lst"], "no such command 'lst'. Did you mean 'list'?", "`spurline tickets --help`"),
        (["tickets", "list", "--jso"], "no such option: --jso", "did you mean --json?"),
        (["request", "GET"], "missing argument 'PATH'", "`spurline request --help`"),
        (["request", "GET", "users"], "does not begin with '/'", "--service"),
        (["sandbox", "create", "a/b"], "the sandbox name 'a/b'", "my-change"),
        (["sandbox", "delete"], "give names or --all", "sandbox list"),
        (["-C", "nowhere", "tickets", "list"], "there is no folder 'nowhere'", "existing folder"),
    ],
)
def test_usage_errors_have_one_form(
    spurline: Spurline, make_repo: MakeRepo, arguments: list[str], message: str, hint: str
) -> None:
    root = make_repo({"spurline.yaml": SETTINGS})
    done = spurline(*arguments, cwd=root)
    error, way_out = done.err.splitlines()
    assert (done.code, done.out) == (2, "")
    assert error.startswith("error: ")
    assert message in error
    assert way_out.startswith("hint: ")
    assert hint in way_out


def test_with_json_the_error_is_data_too(spurline: Spurline, make_repo: MakeRepo) -> None:
    root = make_repo({"spurline.yaml": SETTINGS})
    done = spurline("tickets", "list", "--json", cwd=root)
    assert done.code == 2
    (found,) = done.objects
    assert found["error"]["code"] == "config"
    assert "no ticket file matches 'tickets/*.md'" in found["error"]["message"]
    assert found["error"]["hint"] == "write a ticket there, or correct the pattern"
    assert done.err.startswith("error: ")


def test_a_bare_spurline_helps_and_fails(spurline: Spurline, tmp_path: Path) -> None:
    done = spurline(cwd=tmp_path)
    assert done.code == 2
    assert done.out == ""
    assert "Usage: spurline" in done.err


def test_it_works_from_a_folder_below_and_from_outside(spurline: Spurline, make_repo: MakeRepo, tmp_path: Path) -> None:
    root = make_repo({"spurline.yaml": SETTINGS, "tickets/a.md": TICKET.format(id="a")})
    below = spurline("tickets", "list", "--json", cwd=root / "tickets")
    outside = spurline("-C", str(root), "tickets", "list", "--json", cwd=tmp_path)
    assert below.objects == outside.objects
    assert below.objects[0]["ticket"] == "a"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("spurline tickets l", ["list", "lint"]),
        ("spurline request --service w", ["web"]),
        ("spurline sandbox create x --fork w", ["web"]),
        ("spurline sandbox show ", []),
    ],
)
def test_the_shell_completes_names(script: Path, make_repo: MakeRepo, line: str, words: list[str]) -> None:
    root = make_repo({"spurline.yaml": SETTINGS})
    done = subprocess.run(
        [script],
        cwd=root,
        env={
            "PATH": "/usr/bin:/bin",
            "_SPURLINE_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == words, done.stderr


def test_completion_can_be_shown(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [script, "--show-completion", "bash"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "_SPURLINE_COMPLETE" in done.stdout, done.stderr
