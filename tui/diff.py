"""A difference as git writes it, in the colours of its languages; what came and went is told by sign and by ground."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from rich.syntax import Syntax
from rich.text import Text

_MOST_COLOURED: Final = 4_000
"""Lines; beyond that the rest is shown without the colours of its language."""
_GROUNDS: Final = {
    ("+", True): "on #12331f",
    ("-", True): "on #3d1a1d",
    ("+", False): "on #d8f3df",
    ("-", False): "on #f9dcdd",
}
_SIGNS: Final = {"+": "bold green", "-": "bold red", " ": "dim"}


def coloured(diff: str, *, dark: bool) -> list[Text]:
    """The lines of `diff`, plain text already."""
    shown: list[Text] = []
    lexer, inside = "text", False
    for is_code, lines in groupby(_marked(diff), key=lambda pair: pair[1]):
        block = [line for line, _ in lines]
        if is_code:
            shown += _code(block, lexer if len(shown) < _MOST_COLOURED else "text", dark=dark)
            continue
        for line in block:
            if line.startswith("+++ "):
                lexer = Syntax.guess_lexer(line.removeprefix("+++ b/"))
            shown.append(Text(line, _style(line, inside=inside)))
            inside = inside or line.startswith("diff ")
    return shown


def _marked(diff: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is one of a file and no word of git's about it."""
    code = False
    for line in diff.split("\n"):
        if line.startswith("diff "):
            code = False
        yield line, code and line[:1] in ("+", "-", " ")
        code = code or line.startswith("@@")


def _style(line: str, *, inside: bool) -> str:
    if line.startswith("diff "):
        return "bold"
    if line.startswith("@@"):
        return "cyan"
    return "dim" if inside else "default"


def _code(lines: list[str], lexer: str, *, dark: bool) -> Iterator[Text]:
    theme = "ansi_dark" if dark else "ansi_light"
    syntax = Syntax("", lexer, theme=theme, background_color="default")
    text = "\n".join(line[1:] for line in lines)
    painted = list(syntax.highlight(text).split("\n", allow_blank=True)) if lexer != "text" else []
    for number, line in enumerate(lines):
        # A lexer may add or drop an empty last line.
        code = painted[number] if number < len(painted) and painted[number].plain == line[1:] else Text(line[1:])
        whole = Text.assemble((line[:1], _SIGNS[line[0]]), code)
        if ground := _GROUNDS.get((line[0], dark)):
            whole.stylize_before(ground)
        yield whole
