"""harness.cli.errors: every way in which a command can end, as words and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import typer

from harness.cli import app as tree
from harness.cli.app import single
from harness.cli.crash import write_crash
from harness.cli.errors import guarded
from tasks.errors import BaselineError, CheckoutError, ForkError, SpurlineError, StoreError, UsageError

Fails = Callable[[BaseException], None]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fails:
    """Let `spurline fail` raise this."""
    monkeypatch.chdir(tmp_path)

    def arrange(error: BaseException) -> None:
        app = single()

        @app.command("fail")
        def fail(json: bool = False) -> None:
            raise error

        module = ModuleType("harness.cli.failing")
        vars(module).update(app=app, __spec__=ModuleSpec(module.__name__, None))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(tree, "COMMANDS", {"fail": module.__name__})

    return arrange


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpurlineError("it broke", hint="mend it"), 1),
        (UsageError("it broke", hint="mend it"), 2),
        (CheckoutError("it broke", hint="mend it"), 2),
        (BaselineError("it broke", hint="mend it"), 3),
        (StoreError("it broke", hint="mend it"), 3),
    ],
)
def test_our_errors(fails: Fails, capsys: pytest.CaptureFixture[str], error: SpurlineError, code: int) -> None:
    fails(error)
    assert guarded(["fail"]) == code
    assert capsys.readouterr() == ("", "error: it broke\nhint: mend it\n")


def test_json_gets_the_error_as_its_last_line(fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    fails(BaselineError("it \x1b[31mbroke"))
    assert guarded(["fail", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"code": "baseline", "message": "it broke", "hint": ""}}
    assert err == "error: it broke\n"


def test_a_fork_that_fails_shows_its_last_lines(fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    log = tuple(f"line {n}\x1b[2J" for n in range(50))
    fails(ForkError("'b' ended", service="b", stage="start", log=log))
    guarded(["fail"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  | line 30"
    assert lines[-2:] == ["  | line 49", "error: 'b' ended"]


def test_interruptions_are_quiet(fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    for error in (KeyboardInterrupt(), typer.Abort()):
        fails(error)
        assert guarded(["fail"]) == 130
    assert capsys.readouterr() == ("", "")


def test_the_system_says_no(fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    fails(OSError(28, "No space left on device", "/some/file"))
    assert guarded(["fail"]) == 3
    assert capsys.readouterr().err.startswith("error: /some/file: No space left on device\nhint: ")


def test_a_crash_is_short_and_its_traceback_is_kept(
    fails: Fails, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "spurline.yaml").touch()
    (tmp_path / ".spurline").mkdir()
    below = tmp_path / "below"
    below.mkdir()
    fails(ZeroDivisionError("by \x1b[31mzero"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(below)
        assert guarded(["fail"]) == 1
    (log,) = (tmp_path / ".spurline").glob("crash-*.log")
    assert capsys.readouterr().err.splitlines() == [
        "error: Spurline itself failed: ZeroDivisionError: by zero",
        f"hint: the traceback is in {log}; please report it",
    ]
    text = log.read_text()
    assert "Traceback (most recent call last)" in text
    assert "spurline fail\n" in text


def test_a_crash_log_keeps_no_values(tmp_path: Path) -> None:
    (tmp_path / ".spurline").mkdir()
    argv = ["-C", str(tmp_path), "request", "GET", "/x", "-H", "authorization: Bearer secret", "--data=secret"]
    path = write_crash(ZeroDivisionError(), argv)
    assert path is not None
    assert path.parent == tmp_path / ".spurline"
    assert path.read_text().splitlines()[1] == "spurline -C … request … … -H … --data"
