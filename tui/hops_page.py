"""The hop trace of the last verdict: the graph of services, and below it the hops, each of which opens its exchange."""

from __future__ import annotations

from typing import Final

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tasks.text import one_line
from tui.exchange_screen import ExchangeScreen
from tui.exchanges import Step, steps
from tui.feed import Verdict
from tui.hopgraph import Arrow, Drawing, drawing, server, told

_STYLES: Final = {"": "default", "fork": "bold green", "failed": "bold red", "lost": "bold yellow", "muted": "dim"}


class HopsPage(Vertical):
    """A graph that follows the list's cursor."""

    HELP = """\
# Hops

Who called whom in the last checks. A double frame is a fork, a single one the baseline, a heavy one both. An arrow that
ends in `✗` is where a check failed, one that ends in `?` where the key was lost. Enter opens what a hop was asked and
answered, beside the baseline's answer.
"""
    DEFAULT_CSS = """
HopsPage {
    height: 1fr;
    & > VerticalScroll { height: 1fr; padding: 0 1; }
    & > OptionList { height: auto; max-height: 40%; padding: 0 1; border: none; background: $surface; }
    & > OptionList { text-wrap: nowrap; text-overflow: ellipsis; }
    & > OptionList:focus { border: none; }
}
"""

    def __init__(self) -> None:
        super().__init__()
        self._verdict: Verdict | None = None
        self._steps: tuple[Step, ...] = ()
        self._drawing = Drawing(())

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield Static(markup=False)
        yield OptionList(markup=False)

    def show(self, verdict: Verdict | None) -> None:
        """Draw the hops of a verdict; who looks at one stays there while they are the same."""
        if verdict == self._verdict and verdict is not None:
            return
        self._verdict, self._steps = verdict, steps(verdict) if verdict else ()
        rows = self.query_one(OptionList)
        rows.clear_options()
        rows.add_options([Option(_row(step)) for step in self._steps])
        rows.display = bool(self._steps)
        if self._steps:
            rows.highlighted = next((place for place, step in enumerate(self._steps) if step.hop.origin), 0)
        self._draw()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def on_option_list_option_highlighted(self) -> None:
        self._paint()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.app.push_screen(ExchangeScreen(self._steps, event.option_index))

    def _draw(self) -> None:
        verdict = self._verdict
        if verdict is not None and (self._steps or verdict.lost):
            width = self.query_one(VerticalScroll).scrollable_content_region.width
            self._drawing = drawing([step.hop for step in self._steps], verdict.lost, width)
        else:
            said = "no hops are on record of the last verdict" if verdict else "there is no verdict yet"
            self._drawing = Drawing((((said, "muted"),),))
        self._paint()

    def _paint(self) -> None:
        """The drawing, with the arrow of the hop under the cursor, which is scrolled to."""
        place = self._drawing.places.get(self._arrow())
        text = Text(no_wrap=True)
        for number, line in enumerate(self._drawing.lines):
            for piece, look in line:
                text.append(piece, _STYLES[look])
            if number == place:
                text.stylize("reverse", len(text) - sum(len(piece) for piece, _ in line) + _rail(line))
            text.append("\n")
        self.query_one(Static).update(text)
        if place is not None:
            scroll = self.query_one(VerticalScroll)
            scroll.scroll_to(y=max(0, place - scroll.size.height // 2), animate=False)

    def _arrow(self) -> Arrow:
        place = self.query_one(OptionList).highlighted
        if place is None or place >= len(self._steps):
            return "", ""
        hop = self._steps[place].hop
        return hop.caller, hop.service


def _rail(line: tuple[tuple[str, str], ...]) -> int:
    """Characters before the arrow: what only goes past is not pointed at."""
    whole = "".join(piece for piece, _ in line)
    return max(whole.rfind("└"), whole.rfind("├"), 0)


def _row(step: Step) -> Text:
    hop = step.hop
    mark = "✗" if hop.origin else "!" if hop.failed else " "
    row = Text(f"{mark} {one_line(hop.caller)} → {one_line(hop.service)}  {told(hop)}", no_wrap=True)
    row.append(f"  {server(hop)}", _STYLES["fork"] if hop.served_by == "fork" else "dim")
    if hop.origin:
        row.stylize(_STYLES["failed"], 0, 1)
    return row
