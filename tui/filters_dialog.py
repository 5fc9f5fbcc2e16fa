"""The list of filters: one is chosen, the one in force is kept under a name, one of the user's own is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList

from tasks.errors import SpurlineError
from tasks.text import one_line
from tui.dialogs import FRAME
from tui.saved_filters import BUILT_IN, SavedFilters
from tui.signs import fitted

_NAME_CELLS = 32


class Filters(ModalScreen[str | None]):
    """The answer is the filter that was chosen, as it would be typed; None where none was."""

    DEFAULT_CSS = f"""Filters {{{FRAME}
    & OptionList {{ height: auto; max-height: 14; border: none; padding: 0; background: $surface; }}
}}"""
    BINDINGS: ClassVar = [
        Binding("escape", "leave", "Leave", id="filters.leave"),
        Binding("delete,D", "drop", "Drop one of your own", id="filters.drop"),
        Binding("slash", "app.focus_next", show=False),
    ]

    def __init__(self, saved: SavedFilters, text: str, services: Iterable[str]) -> None:
        """`text` is the filter in force, `services` those that there are filters for."""
        super().__init__()
        self._saved, self._text = saved, text
        self._given = {**BUILT_IN, **{f"may change {name}": f"service:{name}" for name in services}}
        self._own: dict[str, str] = {}
        self._listed: list[str] = []

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label("Filters: enter chooses, D drops one of your own", markup=False)
            yield OptionList(markup=False)
            if self._text:
                yield Input(placeholder=f"a name under which to keep: {one_line(self._text)}", compact=True)

    def on_mount(self) -> None:
        self._list()
        self.query_one(OptionList).focus()

    def _list(self) -> None:
        """Show them anew, the user's own first."""
        self._done(self._read)
        all_ = {**self._own, **{name: text for name, text in self._given.items() if name not in self._own}}
        self._listed = list(all_)
        rows = self.query_one(OptionList)
        rows.clear_options()
        for name, text in all_.items():
            row = Text(fitted(one_line(name), _NAME_CELLS), "bold" if name in self._own else "")
            rows.add_option(row.append(f" {one_line(text)}", "dim"))
        rows.highlighted = 0

    def _read(self) -> None:
        self._own = {}
        self._own = self._saved.read()

    def _done(self, what: Callable[[], None]) -> bool:
        """Whether it could be done; why not is said."""
        try:
            what()
        except SpurlineError as error:
            words = f"{error.message}\n{error.hint}" if error.hint else error.message
            self.notify(words, title="filters", severity="error", markup=False)
            return False
        return True

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        name = self._listed[event.option_index]
        self.dismiss({**self._given, **self._own}[name])

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if (name := event.value.strip()) and self._done(lambda: self._saved.keep(name, self._text)):
            self.notify(f"{name}: {self._text}\nkept in {self._saved.path}", title="filters", markup=False)
            self.dismiss(None)

    def action_drop(self) -> None:
        place = self.query_one(OptionList).highlighted
        name = self._listed[place] if place is not None else ""
        if name in self._own:
            self._done(lambda: self._saved.drop(name))
            self._list()

    def action_leave(self) -> None:
        self.dismiss(None)
