"""The live progress of a run on stderr: a small view on a terminal, a plain log elsewhere.

It is fed with events and shows the ones that move; it never fails the run that it shows. A refresh costs the run's own
process, so the view is drawn four times a second and stays within a dozen lines, whatever the number of agents.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol, Self

from harness.cli.board import Board, log_line
from harness.cli.documents import clock
from harness.cli.output import STATE_STYLES, Output, state_cell
from tasks.events import Event
from tasks.text import short_span
from tui.feed import Agent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

_REFRESHES_PER_S: Final = 4
_ROWS: Final = 12
_OTHER_LINES: Final = 5
_WIDE: Final = 72
_STATE_WIDTH: Final = 13
_SINCE_WIDTH: Final = 6


class AgentRow(Protocol):
    """How one ticket ended, for the final table; the store's rows are of this shape."""

    @property
    def ticket(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def iterations(self) -> int: ...
    @property
    def machine(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Progress:
    """A context manager around a run; `feed` it every event."""

    def __init__(self, out: Output, *, now: Callable[[], float] = time.time) -> None:
        self.board = Board()
        self._out = out
        self._now = now
        self._live: Live | None = None
        self._broken, self._hidden = False, False

    def __enter__(self) -> Self:
        self.show()
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    def show(self) -> None:
        """Draw, where there is something to draw on."""
        self._hidden = False
        # JSON lines on the same terminal would be drawn over.
        if self._out.narrates_on_terminal and not self._out.json:
            self._live = self._open_view()

    def hide(self) -> None:
        """Draw and say nothing until it is to be shown again: something else has the terminal."""
        self._hidden = True
        if self._live is not None:
            self._live.stop()
            self._live = None

    def feed(self, event: Event) -> None:
        """Take one event in; quick, and never raises."""
        if self._broken:
            return
        try:
            self.board = self.board.fold(event)
            if self._live is None and not self._hidden and (line := log_line(event)) is not None:
                self._out.note(f"{clock(event.at or self._now())}  {line}")
        # A boundary: what cannot be shown must not end what is shown.
        except Exception as error:
            self._broken = True
            self._out.warning(f"the progress display stopped ({type(error).__name__}: {error}); the run goes on")

    def _open_view(self) -> Live:
        from rich.live import Live

        console = self._out.console(error=True)
        live = Live(
            get_renderable=lambda: view(self.board, self._now(), console),
            console=console,
            refresh_per_second=_REFRESHES_PER_S,
            transient=True,
            vertical_overflow="crop",
        )
        live.start()
        return live


def view(board: Board, now: float, console: Console) -> RenderableType:
    """The board as it is drawn on `console`: head, totals, the agents that move, how many more work."""
    from rich.console import Group

    if not board.total:
        return _line("nothing has begun yet", "dim")
    width = console.width
    rows = max(1, min(_ROWS, console.height - _OTHER_LINES))
    shown = board.moving(rows)
    held = [_line(_cut(f"waiting for the {by}: {why}", width), "yellow") for by, why in board.fleet.held.items()]
    lines = [_head(board, now), _totals(board), *held, *(_row(agent, now, width) for agent in shown)]
    more = len(board.working()) - len(shown)
    if more > 0:
        lines.append(_line(f"… and {more} more at work", "dim"))
    return Group(*lines)


def _head(board: Board, now: float) -> Text:
    took = short_span(now - board.began) if board.began else ""
    cost_usd = board.fleet.cost_usd
    cost = f"{cost_usd:.2f} USD" if cost_usd else ""
    parts = [part for part in (f"{board.fleet.ended}/{board.total} ended", took, cost) if part]
    return _line(" · ".join(parts), "bold")


def _totals(board: Board) -> Text:
    from rich.text import Text

    text = Text(overflow="fold")
    for state, count in board.totals().items():
        text.append(f"{count} {state}  ", STATE_STYLES.get(state, ""))
    return text


def _row(agent: Agent, now: float, width: int) -> Text:
    wide = width >= _WIDE
    ticket_width = min(28, max(8, width - _STATE_WIDTH - _SINCE_WIDTH - 6)) if not wide else 28
    nth = f"{agent.iteration}" if agent.iteration else ""
    since = short_span(now - agent.since)
    text = f"{_cut(agent.ticket, ticket_width):<{ticket_width}} {agent.state:<{_STATE_WIDTH}} {nth:>2} {since:>5}"
    if wide:
        text = f"{text}  {agent.doing}"
    return _line(_cut(text.rstrip(), width), STATE_STYLES.get(agent.state, ""))


def _line(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def summary_table(rows: Iterable[AgentRow], out: Output) -> None:
    """How every ticket ended, one a row, on stdout; and on which machine, where that was another one than this."""
    from harness.store.workers import elsewhere

    agents = list(rows)
    several = any(elsewhere(row.machine) for row in agents)
    out.table(
        ["ticket", "state", "iterations", *(["machine"] if several else []), "reason"],
        [
            [row.ticket, state_cell(row.state), str(row.iterations), *([row.machine] if several else []), row.reason]
            for row in agents
        ],
        empty="there are no tickets",
    )
