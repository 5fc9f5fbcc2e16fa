"""A report as Markdown. Whatever it quotes is escaped: it cannot become a link, a heading, HTML or a mention."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from harness.report.outline import Section, sections
from harness.report.values import Report
from tasks.text import one_line, plain

# What makes markup inside a line, by CommonMark and by what GitHub adds (strikes, formulas, bare addresses) …
_INSIDE: Final = re.compile(r"[\\`*_\[\]<>|#!&~$@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
# … and what makes a list, a rule or a heading at its beginning.
_FIRST: Final = re.compile(r"^(?:\d+(?=[.)](?:\s|$))|(?=[-+=]))")
_CELL_LIMIT: Final = 500


def to_markdown(report: Report) -> str:
    """The whole report."""
    blocks = [f"# Run {escaped(report.run)}"]
    for section in sections(report):
        blocks += _blocks(section)
    return "\n\n".join(blocks) + "\n"


def _blocks(section: Section) -> Iterable[str]:
    if section.title:
        yield f"## {escaped(section.title)}"
    if section.lines:
        yield "  \n".join(escaped(line) for line in section.lines)
    if section.fields:
        yield _table(("", ""), [pair for pair in section.fields if pair[1]])
    if section.rows:
        yield _table(section.columns, section.rows)
    if section.quoted:
        yield fenced(section.quoted)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = [escaped(column) for column in columns]
    lines = [heads, ["---"] * len(heads), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escaped(text: str) -> str:
    """`text` as one line that says the same and holds no markup."""
    line = _INSIDE.sub(lambda mark: f"\\{mark[0]}", one_line(text, _CELL_LIMIT))
    line = _FIRST.sub(r"\g<0>\\", line)
    # A mention is looked for in what the page shows, where no backslash is left: a word joiner keeps it from being one.
    return line.replace("@", "@\u2060")


def fenced(text: str) -> str:
    """`text` as a code block that nothing in it can end."""
    body = plain(text)
    fence = "`" * max(3, *(len(ticks) + 1 for ticks in re.findall("`+", body)), 3)
    return f"{fence}text\n{body}\n{fence}"
