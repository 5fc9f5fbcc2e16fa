"""What a command prints: data on stdout, narration on stderr, JSON where it was asked for.

Everything that may come from a service, an agent or a ticket is stripped of control sequences, and no text is ever
read as markup. Rich is imported on a terminal only; elsewhere the same words go out plain, one row a line, uncut.
A table that does not fit the terminal is turned into one block a row, so that 40 columns lose nothing.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TextIO

from tasks.text import one_line, plain

if TYPE_CHECKING:
    from rich.console import Console

_CELL_LIMIT: Final = 500
_GAP: Final = "  "
_NARROW: Final = 24
"""A last column that would be wrapped into less than this is no longer a table."""
# What JSON leaves as it is, but a terminal obeys: DEL, C1, bidi overrides; and surrogates, which no stream takes.
_UNSAFE_IN_JSON: Final = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Styled:
    """A cell with a style of Rich's (`green`, `bold red`); plain text where there is no terminal."""

    text: str
    style: str


Cell = str | Styled

STATE_STYLES: Final[Mapping[str, str]] = {
    "verified": "green",
    "failed": "red",
    "unproven": "yellow",
    "needs_human": "magenta",
    "error": "bold red",
    "cancelled": "dim",
    "queued": "dim",
    "paused": "dim",
}
"""States of agents by colour; the words carry the meaning, colour only helps."""


def state_cell(state: str) -> Cell:
    """A state of an agent as a cell."""
    style = STATE_STYLES.get(state)
    return Styled(state, style) if style else state


def to_json(value: Any) -> str:
    """`value` as one line of JSON that is safe to look at in a terminal, and says the same to a program."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class Output:
    """The two streams of one command."""

    def __init__(self, *, json: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.json = json
        """Whether data is printed as JSON; commands ask this and call `object` then, else the others."""
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._consoles: dict[bool, Console] = {}

    @property
    def terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return self._stdout.isatty()

    @property
    def narrates_on_terminal(self) -> bool:
        """Whether stderr is a terminal."""
        return self._stderr.isatty()

    def console(self, *, error: bool) -> Console:
        """Rich's console of stderr or stdout, the one that all text on it goes through. For terminals only."""
        if error not in self._consoles:
            from rich.console import Console

            stream = self._stderr if error else self._stdout
            self._consoles[error] = Console(file=stream, highlight=False, markup=False, emoji=False)
        return self._consoles[error]

    def object(self, value: Mapping[str, Any]) -> None:
        """One JSON object, one line, on stdout."""
        print(to_json(value), file=self._stdout, flush=True)

    def line(self, text: Cell = "") -> None:
        """Text for people on stdout; newlines in it stay."""
        self._print(text, error=False)

    def note(self, text: Cell) -> None:
        """Narration on stderr."""
        self._print(text, error=True)

    def warning(self, text: str) -> None:
        """Narration that should not be missed, on stderr."""
        self._print(Styled(f"warning: {text}", "yellow"), error=True)

    def failure(self, message: str, hint: str = "", log: Sequence[str] = ()) -> None:
        """An error with its way out, on stderr; `log` is what the culprit said last."""
        for said in log:
            self._print(Styled(f"  | {said}", "dim"), error=True)
        self._print(Styled(f"error: {message}", "bold red"), error=True)
        if hint:
            self._print(f"hint: {hint}", error=True)

    def fields(self, pairs: Iterable[tuple[str, Cell]]) -> None:
        """Names and values, one a line, on stdout."""
        rows = [(name, value) for name, value in pairs if _text(value)]
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            self._print(_prefixed(f"{name:<{width}}  ", value), error=False)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, empty: str = "") -> None:
        """A table on stdout; `empty` is said on stderr where there are no rows."""
        cells = [[_tidy(cell) for cell in row] for row in rows]
        if not cells:
            if empty:
                self.note(empty)
            return
        widths = [max(len(head), *(len(_text(row[i])) for row in cells)) for i, head in enumerate(columns)]
        headed: list[Sequence[Cell]] = [[Styled(head.upper(), "dim") for head in columns], *cells]
        if not self.terminal:
            self._rows(headed, widths, last_width=None)
            return
        left = self.console(error=False).width - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
        if left >= min(widths[-1], _NARROW):
            self._rows(headed, widths, last_width=left)
        else:
            self._blocks(columns, cells)

    def _rows(self, rows: Sequence[Sequence[Cell]], widths: Sequence[int], *, last_width: int | None) -> None:
        """One line a row; on a terminal the last column is wrapped in its own place."""
        indent = " " * (sum(widths[:-1]) + len(_GAP) * (len(widths) - 1))
        for row in rows:
            padded = [_padded(cell, width) for cell, width in zip(row[:-1], widths, strict=False)]
            first, *rest = _wrapped(row[-1], last_width)
            self._line([*padded, first], error=False)
            for more in rest:
                self._print(_prefixed(indent, more), error=False)

    def _blocks(self, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        for row in rows:
            self._print(Styled(_text(row[0]), "bold"), error=False)
            for head, cell in zip(columns[1:], row[1:], strict=True):
                if _text(cell):
                    self._print(_prefixed(f"  {head}: ", cell), error=False)

    def _print(self, text: Cell, *, error: bool) -> None:
        self._line([text], error=error)

    def _line(self, cells: Sequence[Cell], *, error: bool) -> None:
        stream = self._stderr if error else self._stdout
        if not stream.isatty():
            line = _GAP.join(plain(_text(cell)) for cell in cells)
            print(line.rstrip(), file=stream, flush=True)
            return
        from rich.text import Text

        styled = [Text(plain(_text(cell)), style=cell.style if isinstance(cell, Styled) else "") for cell in cells]
        self.console(error=error).print(Text(_GAP).join(styled), soft_wrap=True)


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Styled) else cell


def _tidy(cell: Cell) -> Cell:
    text = one_line(_text(cell), _CELL_LIMIT)
    return Styled(text, cell.style) if isinstance(cell, Styled) else text


def _padded(cell: Cell, width: int) -> Cell:
    text = _text(cell).ljust(width)
    return Styled(text, cell.style) if isinstance(cell, Styled) else text


def _wrapped(cell: Cell, width: int | None) -> list[Cell]:
    text = _text(cell)
    if width is None or len(text) <= width:
        return [cell]
    lines = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
    return [Styled(line, cell.style) for line in lines] if isinstance(cell, Styled) else list(lines)


def _prefixed(prefix: str, cell: Cell) -> Cell:
    return Styled(prefix + cell.text, cell.style) if isinstance(cell, Styled) else prefix + cell
