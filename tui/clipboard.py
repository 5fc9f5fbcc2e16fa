"""What of an agent can be copied: by OSC 52, which reaches the clipboard over ssh and tmux as well."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label, OptionList
from textual.widgets.option_list import Option

from tasks.text import one_line
from tui.feed import Links


class Copy(ModalScreen[str | None]):
    """Ask what is to be copied; the answer is the text, None where nothing is."""

    DEFAULT_CSS = """
Copy {
    align: center middle;
    & > Vertical {
        width: 90; max-width: 100%; height: auto; max-height: 100%;
        padding: 0 1; background: $surface; border: round $primary;
    }
    & OptionList { height: auto; border: none; background: $surface; text-wrap: nowrap; text-overflow: ellipsis; }
    & OptionList:focus { border: none; }
}
"""
    BINDINGS: ClassVar = [
        Binding("escape", "dismiss(None)", "Nothing", id="copy.leave"),
        *(Binding(str(n), f"take({n - 1})", show=False) for n in range(1, 7)),
        Binding("j", "move(1)", "Down", show=False),
        Binding("k", "move(-1)", "Up", show=False),
    ]

    def __init__(self, links: Links) -> None:
        super().__init__()
        found = (
            ("branch", links.branch),
            ("commit", links.commit),
            ("command", links.show),
            ("worktree", links.worktree),
            ("preview", links.preview),
            ("to have a worktree", "" if links.worktree else links.restore),
        )
        self._texts = tuple((name, one_line(text, 2_000)) for name, text in found if text)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label("Copy", markup=False)
            yield OptionList(*(Option(_row(n, *one)) for n, one in enumerate(self._texts, 1)), markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).highlighted = 0

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_take(event.option_index)

    def action_take(self, place: int) -> None:
        if place < len(self._texts):
            self.dismiss(self._texts[place][1])

    def action_move(self, by: int) -> None:
        rows = self.query_one(OptionList)
        rows.action_cursor_down() if by > 0 else rows.action_cursor_up()


def _row(number: int, name: str, text: str) -> Text:
    return Text.assemble((f"{number} ", "dim"), (f"{name}  ", "bold"), text, no_wrap=True)
