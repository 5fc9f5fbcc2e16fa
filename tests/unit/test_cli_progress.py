"""harness.cli.progress: drawn at every width, plain where there is no terminal, and never in the way."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from harness.cli.board import Board
from harness.cli.output import Output
from harness.cli.progress import Progress, summary_table, view
from harness.store.workers import machine
from tasks.events import Event


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def crowd(count: int) -> Board:
    board = Board().fold(Event("run.started", "r", None, {"tickets": count}, 1.0))
    for n in range(count):
        data = {"state": "verified" if n % 10 == 0 else "generating", "iterations": 2}
        board = board.fold(Event("agent.state", "r", f"a-ticket-with-a-long-name-{n:03}", data, float(n)))
        board = board.fold(Event("agent.activity", "r", "a-ticket-with-a-long-name-001", {"doing": "[red]x"}, 300.0))
    return board


def drawn(board: Board, width: int, height: int = 24) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, color_system=None, markup=False)
    console.print(view(board, 400.0, console))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 40, 72, 200])
def test_a_hundred_agents_fit(width: int) -> None:
    lines = drawn(crowd(100), width)
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("10/100 ended")
    assert "90 generating" in " ".join(lines)
    assert lines[-1].startswith("… and 78 more")
    assert len(lines) <= 24


def test_a_low_terminal_shows_fewer_agents() -> None:
    assert drawn(crowd(100), 80, height=8)[-1] == "… and 87 more at work"


def test_activity_is_text_not_markup() -> None:
    assert any("[red]x" in line for line in drawn(crowd(20), 120))


def test_without_a_terminal_it_is_a_log() -> None:
    stderr = io.StringIO()
    with Progress(Output(stdout=io.StringIO(), stderr=stderr)) as progress:
        progress.feed(Event("agent.state", "r", "a", {"state": "preparing"}, 10.5))
        progress.feed(Event("agent.activity", "r", "a", {"doing": "read"}, 11.0))
        progress.feed(Event("verdict", "r", "a", {"conclusion": "failed", "reason": "\x1b[2Jred"}, 12.0))
    lines = stderr.getvalue().splitlines()
    assert [line[14:] for line in lines] == ["a: preparing", "a: verdict failed: red"]


def test_on_a_terminal_narration_goes_through_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    stderr = Terminal()
    out = Output(stdout=io.StringIO(), stderr=stderr)
    with Progress(out) as progress:
        progress.feed(Event("agent.state", "r", "a", {"state": "preparing"}, 10.5))
        out.note("beside it")
    assert "beside it" in stderr.getvalue()
    assert stderr.getvalue().rstrip().endswith("\x1b[2K") or "\x1b[?25h" in stderr.getvalue()


def test_json_on_a_terminal_is_not_drawn_over() -> None:
    stderr = Terminal()
    with Progress(Output(json=True, stdout=io.StringIO(), stderr=stderr)) as progress:
        progress.feed(Event("agent.state", "r", "a", {"state": "preparing"}, 10.5))
    assert "\x1b[?25l" not in stderr.getvalue()


def test_a_display_that_breaks_never_ends_the_run() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            if "preparing" in text:
                raise ValueError("no more")
            return super().write(text)

    stderr = Full()
    with Progress(Output(stdout=io.StringIO(), stderr=stderr)) as progress:
        progress.feed(Event("agent.state", "r", "a", {"state": "preparing"}, 10.5))
        progress.feed(Event("agent.state", "r", "a", {"state": "preparing"}, 10.6))
    assert stderr.getvalue().count("the run goes on") == 1


@dataclass(frozen=True)
class Row:
    ticket: str
    state: str
    iterations: int
    reason: str
    machine: str = ""


def test_the_final_table() -> None:
    stdout = io.StringIO()
    rows = [Row("users-v2", "verified", 2, "4 checks pass"), Row("b", "unproven", 1, "the key was lost at legacy")]
    summary_table(rows, Output(stdout=stdout))
    assert stdout.getvalue().splitlines() == [
        "TICKET    STATE     ITERATIONS  REASON",
        "users-v2  verified  2           4 checks pass",
        "b         unproven  1           the key was lost at legacy",
    ]


def test_the_final_table_names_machines_where_another_one_took_part() -> None:
    here, stdout = machine(), io.StringIO()
    summary_table([Row("a", "verified", 1, "", here), Row("b", "queued", 0, "")], Output(stdout=stdout))
    assert "MACHINE" not in stdout.getvalue()
    stdout = io.StringIO()
    summary_table([Row("a", "verified", 1, "", here), Row("b", "failed", 1, "", f"not-{here}")], Output(stdout=stdout))
    head, *rows = stdout.getvalue().splitlines()
    assert "MACHINE" in head
    assert [row.split()[3] for row in rows] == [here, f"not-{here}"]
