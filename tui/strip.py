"""A hundred agents at once: one cell each, in the backlog's order, by sign and colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.segment import Segment
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from tui.feed import Agent
from tui.fleet import rank
from tui.signs import CLASSES, COLOURS, sign, style

_MOST_ROWS: Final = 4


class FleetStrip(Widget):
    """Where there are more agents than cells, one stands for several, and shows the one that needs attention most."""

    DEFAULT_CSS = f"""
FleetStrip {{
    height: auto;
    padding: 0 1;
    background: $surface;{COLOURS}
    & > .sign--attention, & > .sign--error {{ text-style: bold reverse; }}
}}"""
    COMPONENT_CLASSES: ClassVar = set(CLASSES)

    def __init__(self) -> None:
        super().__init__()
        self._cells: tuple[tuple[str, str], ...] = ()
        """Sign and style of each agent's cell."""
        self._agents: Sequence[Agent] = ()
        self._now = 0.0

    def show(self, agents: Sequence[Agent], now: float) -> None:
        """Draw these agents; nothing is painted where nothing looks different."""
        counted = len(agents) != len(self._agents)
        self._agents, self._now = agents, now
        self._settle()
        if counted:
            self.refresh(layout=True)

    def on_resize(self) -> None:
        self._settle()

    def _settle(self) -> None:
        cells = tuple(self._cell(some) for some in self._groups(self._width()))
        if cells != self._cells:
            self._cells = cells
            self.refresh()

    def _width(self) -> int:
        return max(1, self.size.width)

    def _groups(self, width: int) -> list[Sequence[Agent]]:
        each = max(1, -(-len(self._agents) // (width * _MOST_ROWS)))
        return [self._agents[first : first + each] for first in range(0, len(self._agents), each)]

    def _cell(self, some: Sequence[Agent]) -> tuple[str, str]:
        worst = min(some, key=lambda agent: rank(agent, self._now))
        return sign(worst, self._now), style(worst, self._now)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return max(1, min(_MOST_ROWS, -(-len(self._agents) // max(1, width))))

    def render_line(self, y: int) -> Strip:
        width = self._width()
        cells = self._cells[y * width : (y + 1) * width]
        base = self.rich_style
        segments = [
            Segment(mark, base + self.get_component_rich_style(f"sign--{name}", partial=True)) for mark, name in cells
        ]
        return Strip([*Strip(segments).simplify(), Segment(" " * (width - len(cells)), base)], width)
