"""harness.cli.output: what goes where, and that nothing from outside reaches a terminal as a command."""

from __future__ import annotations

import io
import json

import pytest

from harness.cli.output import Output, Styled, state_cell, to_json
from harness.cli.verdicts import show_verdict

EVIL = "\x1b[31mred\x1b]0;title\x07 [bold]markup[/bold] \u202eesrever\x9b2J"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> tuple[Output, Terminal]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "dumb")  # styles are left out; widths stay
    stream = Terminal()
    return Output(stdout=stream, stderr=Terminal()), stream


def plain_pair() -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Output(stdout=out, stderr=err), out, err


def test_data_and_narration_go_apart() -> None:
    output, out, err = plain_pair()
    output.line("data")
    output.note("narration")
    output.warning("careful")
    assert out.getvalue() == "data\n"
    assert err.getvalue() == "narration\nwarning: careful\n"


def test_a_failure_shows_log_message_and_way_out() -> None:
    output, out, err = plain_pair()
    output.failure("it broke", "mend it", ["last words"])
    assert err.getvalue() == "  | last words\nerror: it broke\nhint: mend it\n"
    assert out.getvalue() == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_control_sequences_and_markup_stay_text(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    if terminal:
        output, stream = on_terminal(monkeypatch, 120)
    else:
        output, stream, _ = plain_pair()  # type: ignore[assignment]  # both are text streams
    output.line(EVIL)
    output.table(["name"], [[EVIL]])
    output.fields([("name", EVIL)])
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    assert text.count("[bold]markup[/bold]") == 3


def test_json_is_lossless_and_safe_to_look_at() -> None:
    value = {"text": EVIL + "\ud800 ü \x7f"}
    line = to_json(value)
    assert json.loads(line) == value
    assert not set(line) & {"\x1b", "\x9b", "\u202e", "\x7f", "\ud800"}
    assert "ü" in line
    assert "\n" not in line


def test_a_plain_table_is_never_cut() -> None:
    output, out, _ = plain_pair()
    output.table(["ticket", "reason"], [["a", "x" * 300], ["long-one", "y"]])
    lines = out.getvalue().splitlines()
    assert lines[0] == "TICKET    REASON"
    assert lines[1] == "a         " + "x" * 300
    assert lines[2] == "long-one  y"


def test_a_wide_terminal_wraps_the_last_column_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    output, stream = on_terminal(monkeypatch, 50)
    output.table(["ticket", "reason"], [["users-v2", "the check that charges an order answered 400 twice"]])
    lines = stream.getvalue().splitlines()
    assert lines[1:] == ["users-v2  the check that charges an order answered", "          400 twice"]
    assert max(map(len, lines)) <= 50


def test_forty_columns_turn_a_table_into_blocks_that_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    output, stream = on_terminal(monkeypatch, 40)
    columns = ["service", "health", "url", "process"]
    output.table(columns, [["payments", "healthy", "http://127.0.0.1:29913", "pid 17109 at 127.0.0.1:20001"]])
    assert stream.getvalue().splitlines() == [
        "payments",
        "  health: healthy",
        "  url: http://127.0.0.1:29913",
        "  process: pid 17109 at 127.0.0.1:20001",
    ]


def test_an_empty_table_says_so_on_stderr() -> None:
    output, out, err = plain_pair()
    output.table(["name"], [], empty="there is none")
    assert (out.getvalue(), err.getvalue()) == ("", "there is none\n")


def test_fields_leave_out_what_is_empty() -> None:
    output, out, _ = plain_pair()
    output.fields([("name", "a"), ("longer name", Styled("b", "bold")), ("nothing", "")])
    assert out.getvalue() == "name         a\nlonger name  b\n"


def test_states_have_colours_and_keep_their_words() -> None:
    assert state_cell("verified") == Styled("verified", "green")
    assert state_cell("generating") == "generating"


def test_a_verdict_is_shown_with_what_a_reader_must_know_besides() -> None:
    output, out, _ = plain_pair()
    notes = ["check 'old' cannot be judged", "adds \x1b[31mred"]
    show_verdict({"checks": [], "forks": [], "evidence": None, "notes": notes}, output)
    assert out.getvalue().splitlines() == ["", "note: check 'old' cannot be judged", "note: adds red"]
