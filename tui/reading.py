"""A page of text that is read: it stays where the reader is, goes on by itself at its end, and is searched."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar, Final

from rich.console import RenderableType
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.widgets import Input, RichLog, Static
from textual.worker import Worker

_SLICE_S: Final = 0.01
"""Of our own time: a busy machine gets on as well."""


class Reading(Vertical):
    """Pieces from top to bottom. What was written stays; only what is new is rendered."""

    DEFAULT_CSS = """
Reading {
    height: 1fr;
    & > RichLog { height: 1fr; padding: 0 1; background: $background; background-tint: transparent; }
    & > RichLog:focus { background-tint: transparent; }
    & > #above { height: auto; max-height: 4; padding: 0 1; }
    & > Horizontal { display: none; height: 1; background: $panel; }
    & > Horizontal > Input { width: 1fr; height: 1; border: none; padding: 0 1; background: $panel; }
    & > Horizontal > Static { width: auto; padding: 0 1; color: $foreground-muted; }
}
"""
    BINDINGS: ClassVar = [
        Binding("slash", "search", "Search", id="reading.search"),
        Binding("f", "follow", "Follow", show=False, id="reading.follow"),
        Binding("escape", "close", "Close the search", show=False, id="reading.close"),
        Binding("down", "found(1)", "Next", show=False, id="reading.next"),
        Binding("up", "found(-1)", "Previous", show=False, id="reading.previous"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[RenderableType] = []
        self._written = 0
        """How many of them stand there."""
        self._width, self._follows = 0, False
        """In how many cells they stand there, and whether its end is kept in view."""
        self._place: int | None = None
        """Where the reader was when it was begun anew."""
        self._words, self._found = "", -1

    def compose(self) -> ComposeResult:
        yield Static(id="above", markup=False)
        yield RichLog(wrap=True, min_width=10, auto_scroll=False)
        with Horizontal():
            yield Input(placeholder="search; enter or ↓ next, ↑ previous, esc ends", compact=True)
            yield Static(id="count", markup=False)

    @property
    def log_(self) -> RichLog:
        """Where it stands."""
        return self.query_one(RichLog)

    @property
    def width(self) -> int:
        """Cells that a piece has."""
        return self.log_.scrollable_content_region.width

    def show(
        self, pieces: Sequence[RenderableType], head: Text | None = None, *, follows: bool = False, top: bool = False
    ) -> None:
        """Write these pieces, below a head that stays. `top`: it is another page than before. `follows`: its end is
        where things happen."""
        above = self.query_one("#above", Static)
        above.display = head is not None
        above.update(head or "")
        log, writing = self.log_, self._written < len(self._pieces)
        at_end = self._follows if writing else log.scroll_offset.y >= log.max_scroll_y
        self._follows = follows and (top or at_end)
        begun = None if top else _continued(self._pieces, pieces)
        if begun is None:
            self._begin([*pieces], 0 if top else int(log.scroll_offset.y))
        elif fresh := pieces[begun:]:
            self._pieces += fresh
            self._write()

    def on_resize(self) -> None:
        # What was written while another page was shown in its place had no width at all.
        if self.width != self._width:
            self._again()

    def _again(self) -> None:
        """Write everything anew, in the width that there is now."""
        self._begin(self._pieces, int(self.log_.scroll_offset.y))

    def _begin(self, pieces: list[RenderableType], place: int) -> None:
        self._pieces, self._written, self._place, self._width = pieces, 0, place, self.width
        self.log_.clear()
        self._write()

    def _write(self) -> None:
        if self._wrote_all():
            self.workers.cancel_group(self, "write")
        else:
            self._writer: Worker[None] = self.run_worker(self._go_on, exclusive=True, group="write")

    async def _go_on(self) -> None:
        done = False
        # Who left the page in the meantime needs nothing written.
        while not done and self.is_attached:
            # Rendering is slow, and keys are to be heard meanwhile.
            await asyncio.sleep(0)
            with suppress(NoMatches):
                done = self._wrote_all()

    def _wrote_all(self) -> bool:
        """Write what is not written yet, for `_SLICE_S` at most; whether all of it is."""
        first, until = not self._written, time.thread_time() + _SLICE_S
        while self._written < len(self._pieces) and time.thread_time() < until:
            piece = self._pieces[self._written]
            self.log_.write(self._marked(piece), expand=True, shrink=True, scroll_end=False)
            self._written += 1
        if self._written < len(self._pieces):
            if first:
                self._settle()
            return False
        self._settle()
        self._place = None
        if self._words and self._found < 0:
            self.action_found(1)
        elif self._words:
            self._tell()
        return True

    def _settle(self) -> None:
        """Be at the end, or where the reader was, as far as there is something yet."""
        if self._follows:
            self.log_.scroll_end(animate=False)
        elif self._place is not None:
            self.log_.scroll_to(y=self._place, animate=False)

    def _marked(self, piece: RenderableType) -> RenderableType:
        """The piece with what is searched for reversed."""
        if not self._words or not isinstance(piece, Text):
            return piece
        marked = piece.copy()
        marked.highlight_regex(re.compile(re.escape(self._words), re.IGNORECASE), "reverse")
        return marked

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of the search are others' while nothing is searched for."""
        return self.query_one(Horizontal).display if action in ("close", "found") else True

    def action_search(self) -> None:
        self.query_one(Horizontal).display = True
        self.query_one(Input).focus()

    def action_close(self) -> None:
        self.query_one(Horizontal).display = False
        self.query_one(Input).value = ""
        self.log_.focus()

    def action_follow(self) -> None:
        """Go to the end, and on with it."""
        self._follows, self._place = True, None
        self.log_.scroll_end(animate=False)

    def action_found(self, by: int) -> None:
        """Go to the next line in which it is found, or the one before."""
        lines = self._lines()
        if lines:
            self._follows, self._place = False, None
            self._found = (self._found + by) % len(lines)
            self.log_.scroll_to(y=max(0, lines[self._found] - self.log_.size.height // 2), animate=False)
        self._tell()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._words, self._found = event.value, -1
        self._again()
        self._tell()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_found(1)

    def _lines(self) -> list[int]:
        words = self._words.casefold()
        return [y for y, strip in enumerate(self.log_.lines) if words in strip.text.casefold()] if words else []

    def _tell(self) -> None:
        lines = len(self._lines())
        self.query_one("#count", Static).update(f"{min(self._found, lines - 1) + 1} of {lines}" if self._words else "")


def _continued(known: Sequence[RenderableType], pieces: Sequence[RenderableType]) -> int | None:
    """Where what is new begins, if `pieces` go on from what stands there, the beginning of which they may lack; None
    where they are something else."""
    for lacking in range(len(known)):
        rest = len(known) - lacking
        if rest <= len(pieces) and known[lacking] == pieces[0] and list(known[lacking:]) == list(pieces[:rest]):
            return rest
    return None
