"""What the signed record of a ticket says, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tasks.text import one_line
from tui.feed import Record
from tui.signs import SIGNS
from tui.texts import clean, styled


def record(found: Record | None) -> list[RenderableType]:
    """Whether it holds, what it says, and how one checks that without a screen."""
    if found is None:
        return [Text("there is no record here: one is signed when a verified commit is handed over", "dim")]
    holds = "✓ it holds: whole, signed by the project's key, and its facts come to what it concludes"
    shown: list[RenderableType] = [
        Text(holds, "green") if found.sound else Text(f"✗ it does not hold: {clean(found.reason)}", "bold red"),
        *([Text(f"! {clean(found.other)}", "bold yellow")] if found.other else []),
        Text(),
        Text(f"$ {clean(found.command)}"),
        Text(),
    ]
    facts = Table.grid(padding=(0, 2))
    for name, value in (*found.says, ("key", found.key), ("path", found.path)):
        said = styled(value, f"{SIGNS.get(value, '~')} {value}") if name == "conclusion" else Text(one_line(value))
        facts.add_row(Text(name, "dim"), said)
    shown += [facts, Text()]
    if found.forks:
        forks = [(Text(one_line(name)), Text(f"g{nth}"), Text(str(hops))) for name, nth, hops in found.forks]
        shown += [_table(("fork", "generation", "hops that prove it"), forks), Text()]
    if found.checks:
        checks = [
            (Text(one_line(name)), styled(baseline), styled(runs.split(", ")[-1], runs), Text(digest[:16], "dim"))
            for name, baseline, runs, digest in found.checks
        ]
        shown.append(_table(("check", "baseline", "sandbox", "digest"), checks))
    return shown


def _table(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table
