"""What a verdict rests on: its checks, its forks, its evidence, and what the forks log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tasks.text import one_line, short_span
from tui.feed import Check, Detail, Living
from tui.signs import SIGNS
from tui.texts import clean, clock, styled

_OUTCOMES: Final = {"pass": "✓ pass", "fail": "✗ fail"}
_LOG: Final = "Log of your fork of "
"""How evidence begins what a fork logged."""


def proof(detail: Detail) -> list[RenderableType]:
    """The last verdict: checks with the baseline's answer beside the sandbox's, forks with their hops, the evidence."""
    verdict = detail.verdict
    if verdict is None:
        return [Text("there is no verdict yet", "dim")]
    head = styled(verdict.conclusion, f"{SIGNS.get(verdict.conclusion, '~')} {verdict.conclusion}")
    head.append(f"  commit {verdict.commit[:12]}  ", "dim").append(clean(verdict.reason), "default")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("baseline", "sandbox", "", "check", "whose"):
        table.add_column(column)
    for check in verdict.checks:
        table.add_row(
            _outcome(check.baseline),
            _outcome(check.sandbox),
            Text("~ flaky" if check.flaky else "", "yellow"),
            Text(one_line(check.name)),
            Text("the ticket's" if check.own else "the repository's", "dim"),
        )
    shown: list[RenderableType] = [head, Text(), table, Text()]
    for service, generation, hops in verdict.forks:
        shown.append(Text(f"fork {one_line(service)}, generation {generation}: {hops} hops prove that it served"))
    shown += [Text(f"note: {clean(note)}", "yellow") for note in verdict.notes]
    for check in verdict.checks:
        if check.sandbox != "pass" or check.baseline != "pass":
            shown += [Text(), *_opened(check)]
    if verdict.evidence:
        shown += [
            Text("\nevidence, as the agent was given it", "bold"),
            *map(_evidence, clean(verdict.evidence).split("\n")),
        ]
    return shown


def logs(detail: Detail) -> list[RenderableType]:
    """The last lines of its forks; once the sandbox is gone, what the evidence has of them."""
    if detail.sandbox is not None:
        lines = [
            Text(f"{clock(at)}  ", "dim").append(f"{one_line(service)}  ", "cyan").append(clean(line), "default")
            for at, service, line in detail.logs
        ]
        return [*lines] or [Text("its forks have logged nothing", "dim")]
    kept = [*_kept_logs(detail.verdict.evidence)] if detail.verdict else []
    said = "its sandbox does not live: there are no logs of forks now"
    if not kept:
        return [Text(said, "dim")]
    return [Text(f"{said}; the evidence of the last verdict kept these", "dim"), Text(), *kept]


def sandbox(box: Living, now: float) -> Text:
    """A sandbox that lives, in two lines."""
    forks = ", ".join(f"{one_line(name)} g{nth}{'' if alive else ' (dead)'}" for name, nth, alive in box.forks)
    text = Text.assemble(("sandbox  ", "dim"), one_line(box.name), ("  forks  ", "dim"), forks or "none")
    text.append("  lease  ", "dim").append(f"{short_span(box.lease_ends - now)} left")
    if box.faults:
        text.append(f"  answers 503: {', '.join(map(one_line, box.faults))}", "yellow")
    return text.append("\npreview  ", "dim").append(one_line(box.preview)).append("  o opens it, y copies it", "dim")


def _kept_logs(evidence: str) -> Iterator[Text]:
    """The parts of evidence that are logs: a head each, and indented lines."""
    inside = False
    for line in clean(evidence).split("\n"):
        head = line.startswith(_LOG)
        inside = head or (inside and line.startswith("    "))
        if inside:
            yield Text(line.strip(), "bold" if head else "default")


def _outcome(word: str) -> Text:
    return styled(word, _OUTCOMES.get(word, f"? {one_line(word)}"))


def _opened(check: Check) -> Iterator[RenderableType]:
    """What the check said of the baseline, beside what it said in the sandbox."""
    yield Text(one_line(check.name), "bold")
    if asked := clean(check.asked).split("\n")[0]:
        yield Text(asked, "dim")
    table = Table(expand=True, header_style="dim", box=None, padding=(0, 2, 0, 0))
    table.add_column("baseline", ratio=1)
    table.add_column("sandbox", ratio=1)
    table.add_row(
        _outcome(check.baseline).append(f"\n{clean(check.baseline_detail)}", "default"),
        _outcome(check.sandbox).append(f"\n{clean(check.detail)}", "default"),
    )
    yield table


def _evidence(line: str) -> Text:
    """A line of evidence: hops and answers stand out."""
    if "your fork" in line:
        return Text(line, "green")
    if " → " in line or " answered " in line:
        return Text(line, "cyan")
    return Text(line, "red" if line.lstrip().startswith(("E ", "Check ")) else "default")
