"""What is asked before something is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Grid, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label

from tui.acting import figure, keep_command, named, time_of
from tui.feed import Run

FRAME: Final = """
    align: center middle;
    & > Vertical {
        width: 76; max-width: 100%; height: auto; max-height: 100%;
        padding: 0 2; background: $surface; border: round $primary; overflow-y: auto;
    }
    & Label { width: 100%; }
    & .command { color: $foreground-muted; margin: 1 0 0 0; max-height: 8; }
    & .buttons { grid-size: 2; grid-gutter: 0 2; height: auto; margin: 1 0 0 0; }
    & Button { width: 100%; }
"""


class Confirm(ModalScreen[bool]):
    """Ask whether to do something that cannot be taken back. The answer that does nothing has the focus."""

    DEFAULT_CSS = f"Confirm {{{FRAME}}}"
    BINDINGS: ClassVar = [
        Binding("y", "answer(True)", "Yes", id="confirm.yes"),
        Binding("n,escape", "answer(False)", "No", id="confirm.no"),
        Binding("left,right", "app.focus_next", show=False),
    ]

    def __init__(self, question: str, command: str) -> None:
        super().__init__()
        self._question, self._command = question, command

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label(self._question, markup=False)
            yield Label(f"$ {self._command}", markup=False, classes="command")
            with Grid(classes="buttons"):
                yield Button("No (n)", id="no", compact=True)
                yield Button("Yes (y)", id="yes", variant="error", compact=True)

    def on_mount(self) -> None:
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class Limits(ModalScreen[Mapping[str, float] | None]):
    """Change limits or budgets. The answer holds only what was changed; None where nothing is to be."""

    DEFAULT_CSS = f"""Limits {{{FRAME}
    & .limits {{ grid-size: 2; grid-columns: 24 1fr; grid-rows: 1; height: auto; }}
    & Input {{ width: 14; }}
}}"""
    BINDINGS: ClassVar = [Binding("escape", "leave", "Leave all as it is", id="limits.leave")]

    def __init__(
        self,
        head: str,
        names: Sequence[str],
        known: Mapping[str, float],
        command: Callable[[Mapping[str, float]], str],
    ) -> None:
        """`names` are those that can be changed, `command` does the same in a shell."""
        super().__init__()
        self._head, self._names, self._known, self._command = head, names, known, command

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label(self._head, markup=False)
            with Grid(classes="limits"):
                for name in self._names:
                    yield Label(name.replace("_", " "), markup=False)
                    value = figure(self._known[name]) if name in self._known else ""
                    yield Input(value, type="number", id=name, compact=True)
            yield Label("", markup=False, classes="command")
            with Grid(classes="buttons"):
                yield Button("Leave (esc)", id="leave", compact=True)
                yield Button("Change (enter)", id="change", variant="primary", compact=True)

    def wanted(self) -> dict[str, float]:
        """What was changed, to something that can be."""
        numbers: dict[str, float] = {}
        for box in self.query(Input):
            with suppress(ValueError):
                numbers[box.id or ""] = float(box.value)
        return {
            name: int(most) if most == int(most) else most
            for name, most in numbers.items()
            if isfinite(most) and most >= 0 and most != self._known.get(name)
        }

    def on_input_changed(self) -> None:
        wanted = self.wanted()
        self.query_one(".command", Label).update(f"$ {self._command(wanted)}" if wanted else "")

    def on_input_submitted(self) -> None:
        self.dismiss(self.wanted() or None)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss((self.wanted() or None) if event.button.id == "change" else None)

    def action_leave(self) -> None:
        self.dismiss(None)


class Keep(ModalScreen[str | None]):
    """Ask how long sandboxes are to be kept. The answer is a time such as 2h; None where nothing is to be done."""

    DEFAULT_CSS = f"""Keep {{{FRAME}
    & Input {{ width: 14; }}
}}"""
    BINDINGS: ClassVar = [Binding("escape", "leave", "Leave it", id="keep.leave")]

    def __init__(self, run: Run, tickets: Sequence[str]) -> None:
        super().__init__()
        self._run, self._tickets = run, tickets

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label(f"Keep the sandbox of {named(self._tickets)} for", markup=False)
            yield Input("2h", id="time", compact=True)
            yield Label("", markup=False, classes="command")
            with Grid(classes="buttons"):
                yield Button("Leave (esc)", id="leave", compact=True)
                yield Button("Keep (enter)", id="keep", variant="primary", compact=True)

    @property
    def time(self) -> str | None:
        """What was typed, where it is a time."""
        said = self.query_one(Input).value.strip()
        return said if time_of(said) else None

    def on_input_changed(self) -> None:
        said = f"$ {keep_command(self._run, self._tickets, self.time)}" if self.time else "a time such as 30m or 2h"
        self.query_one(".command", Label).update(said)

    def on_input_submitted(self) -> None:
        if self.time is not None:
            self.dismiss(self.time)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "leave":
            self.dismiss(None)
        else:
            self.on_input_submitted()

    def action_leave(self) -> None:
        self.dismiss(None)
