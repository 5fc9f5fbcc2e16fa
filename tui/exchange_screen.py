"""One exchange beside the baseline's answer, on a screen of its own."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import Footer

from tui.exchanges import Step, compared
from tui.reading import Reading
from tui.texts import wrong


class ExchangeScreen(Screen[None]):
    """What a hop was asked and answered; `n` and `N` go on to the hops beside it."""

    HELP = """\
# An exchange

On the left what was answered in the sandbox, on the right what the baseline answered to the same check. `≠` marks lines
that differ, `<` and `>` what only one of them has.
"""
    DEFAULT_CSS = """
ExchangeScreen {
    &.-short > Footer { display: none; }
}
"""
    BINDINGS: ClassVar = [
        Binding("escape,backspace", "app.pop_screen", "Back", id="exchange.back"),
        Binding("n", "step(1)", "Next", id="exchange.next"),
        Binding("N", "step(-1)", "Previous", show=False, id="exchange.previous"),
        Binding("j", "scroll(1)", "Down", show=False),
        Binding("k", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, steps: tuple[Step, ...], place: int) -> None:
        super().__init__()
        self._steps, self._place = steps, place

    def compose(self) -> ComposeResult:
        yield Reading()
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(Reading).log_.focus()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def action_step(self, by: int) -> None:
        self._place = (self._place + by) % len(self._steps)
        self._draw()

    def action_scroll(self, by: int) -> None:
        self.query_one(Reading).log_.scroll_relative(y=by, animate=False)

    def _draw(self) -> None:
        reading = self.query_one(Reading)
        try:
            pieces = compared(self._steps[self._place], reading.width)
        # A boundary: a document that was read may still hold what nobody expects.
        except Exception as error:
            pieces = [Text(f"it cannot be shown: {wrong(error)}", "bold red")]
        reading.show(pieces, top=True)
