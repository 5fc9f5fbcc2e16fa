"""The screen as SVG, small enough to be kept: a rectangle for each ground, a text for each run of cells of one look."""

from __future__ import annotations

from html import escape
from itertools import groupby
from typing import Final

from rich.cells import cell_len
from rich.color import Color
from rich.style import Style

from tests.tui.screens import strips
from tui.app import SpurlineApp

_WIDTH: Final = 8
_HEIGHT: Final = 18
_BASELINE: Final = 13


def drawing(app: SpurlineApp) -> str:
    """What is seen, with its colours."""
    ground, ink = app.current_theme.background or "#121212", app.current_theme.foreground or "#e0e0e0"
    grounds, texts = [], []
    for y, strip in enumerate(strips(app)):
        x = 0
        for look, some in groupby(strip, key=lambda segment: segment.style or Style()):
            text = "".join(segment.text for segment in some)
            width = cell_len(text)
            fill, back = _colour(look.color, ink), _colour(look.bgcolor, ground)
            if look.reverse:
                fill, back = back, fill
            grounds.append((x, y, width, back))
            if text.strip():
                texts.append(_text(x, y, width, text, fill, look))
            x += width
    box = f"0 0 {app.size.width * _WIDTH} {app.size.height * _HEIGHT}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="monospace" font-size="13">',
            f'<rect width="100%" height="100%" fill="{ground}"/>',
            *_rectangles(grounds, ground),
            *texts,
            "</svg>\n",
        ]
    )


def _rectangles(grounds: list[tuple[int, int, int, str]], usual: str) -> list[str]:
    """What lies side by side on the same ground is one."""
    found = []
    for (y, back), row in groupby(grounds, key=lambda one: (one[1], one[3])):
        parts = list(row)
        x, width = parts[0][0], sum(part[2] for part in parts)
        if back != usual:
            found.append(
                f'<rect x="{x * _WIDTH}" y="{y * _HEIGHT}" width="{width * _WIDTH}" height="{_HEIGHT}" fill="{back}"/>'
            )
    return found


def _text(x: int, y: int, width: int, text: str, fill: str, look: Style) -> str:
    said = f'x="{x * _WIDTH}" y="{y * _HEIGHT + _BASELINE}" textLength="{width * _WIDTH}" fill="{fill}"'
    said += ' font-weight="bold"' if look.bold else ""
    said += ' font-style="italic"' if look.italic else ""
    said += ' text-decoration="underline"' if look.underline else ""
    said += ' opacity="0.6"' if look.dim else ""
    return f'<text xml:space="preserve" {said}>{escape(text)}</text>'


def _colour(colour: Color | None, usual: str) -> str:
    return usual if colour is None or colour.is_default else colour.get_truecolor().hex
