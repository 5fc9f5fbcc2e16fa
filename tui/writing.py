"""What is written to agents: a note, an answer, or the word with which one carries on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Grid, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label, TextArea

from tasks.text import one_line
from tui.acting import Written, named, written_command
from tui.dialogs import FRAME
from tui.feed import Agent, Run

_HEADS: Final[dict[Written, str]] = {
    "note": "A note to {who}, heard before the next model call",
    "answer": "An answer to {who}, to carry on with",
    "carry on": "Carry on with {who}",
}
_PLACES: Final[dict[Written, str]] = {
    "note": "what it should know",
    "answer": "the answer; everything is judged as ever",
    "carry on": "a note to begin with, if need be",
}
_QUESTIONS: Final = 3


class Writing(ModalScreen[str | None]):
    """Write something to agents, in as many lines as it takes. The answer is the text; None where nothing is done."""

    DEFAULT_CSS = f"""Writing {{{FRAME}
    & TextArea {{ height: auto; min-height: 3; max-height: 12; }}
    & .question {{ color: $text-warning; max-height: 3; }}
    & .command {{ margin: 0; max-height: 4; }}
    & .buttons {{ margin: 0; }}
}}"""
    BINDINGS: ClassVar = [
        Binding("ctrl+s", "send", "Do it", id="writing.send", priority=True),
        Binding("escape", "leave", "Leave it", id="writing.leave", priority=True),
    ]

    def __init__(self, run: Run, verb: Written, agents: Sequence[Agent]) -> None:
        super().__init__()
        self._run, self._verb, self._agents = run, verb, agents

    def compose(self) -> ComposeResult:
        tickets = [agent.ticket for agent in self._agents]
        with Vertical():
            yield Label(_HEADS[self._verb].format(who=named(tickets)), markup=False)
            if self._verb != "note":
                for agent in self._agents[:_QUESTIONS]:
                    yield Label(f"{agent.ticket}: {one_line(agent.reason, 400)}", markup=False, classes="question")
            yield TextArea(compact=True, placeholder=_PLACES[self._verb])
            yield Label("", markup=False, classes="command")
            with Grid(classes="buttons"):
                yield Button("Leave (esc)", id="leave", compact=True)
                yield Button("Do it (ctrl+s)", id="send", variant="primary", compact=True)

    def on_mount(self) -> None:
        self.query_one(TextArea).focus()
        self._say()

    @property
    def text(self) -> str:
        """What was written."""
        return self.query_one(TextArea).text.strip()

    @property
    def _enough(self) -> bool:
        return bool(self.text) or self._verb == "carry on"

    def _say(self) -> None:
        tickets = [agent.ticket for agent in self._agents]
        said = f"$ {written_command(self._run, self._verb, tickets, self.text)}" if self._enough else ""
        self.query_one(".command", Label).update(said)

    def on_text_area_changed(self) -> None:
        self._say()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "send":
            self.action_send()
        else:
            self.dismiss(None)

    def action_send(self) -> None:
        if self._enough:
            self.dismiss(self.text)

    def action_leave(self) -> None:
        self.dismiss(None)
