"""What is asked before something is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Grid, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label

from tui.acting import limit_command
from tui.feed import LIMITS

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


class Limits(ModalScreen[Mapping[str, int] | None]):
    """Change how much may happen at once. The answer holds only what was changed; None where nothing is to be."""

    DEFAULT_CSS = f"""Limits {{{FRAME}
    & .limits {{ grid-size: 2; grid-columns: 20 1fr; grid-rows: 1; height: auto; }}
    & Input {{ width: 12; }}
}}"""
    BINDINGS: ClassVar = [Binding("escape", "leave", "Leave all as it is", id="limits.leave")]

    def __init__(self, run: str, known: Mapping[str, int]) -> None:
        super().__init__()
        self._run, self._known = run, known

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label("How much of the run may happen at once", markup=False)
            with Grid(classes="limits"):
                for name in LIMITS:
                    yield Label(name.replace("_", " "), markup=False)
                    yield Input(str(self._known.get(name, "")), type="integer", id=name, compact=True)
            yield Label("", markup=False, classes="command")
            with Grid(classes="buttons"):
                yield Button("Leave (esc)", id="leave", compact=True)
                yield Button("Change (enter)", id="change", variant="primary", compact=True)

    def wanted(self) -> dict[str, int]:
        """What was changed, to something that can be."""
        said = {box.id or "": box.value for box in self.query(Input)}
        numbers = {name: int(value) for name, value in said.items() if value.isdigit() and int(value) > 0}
        return {name: most for name, most in numbers.items() if most != self._known.get(name)}

    def on_input_changed(self) -> None:
        wanted = self.wanted()
        self.query_one(".command", Label).update(f"$ {limit_command(self._run, wanted)}" if wanted else "")

    def on_input_submitted(self) -> None:
        self.dismiss(self.wanted() or None)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss((self.wanted() or None) if event.button.id == "change" else None)

    def action_leave(self) -> None:
        self.dismiss(None)
