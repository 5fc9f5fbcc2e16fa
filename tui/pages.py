"""The pages about one agent that are texts: timeline, conversation, change, proof, record, logs; as renderables.

Every text goes through `plain`, and none is read as markup: what an agent writes is shown, never obeyed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tasks.events import Event
from tasks.states import is_final
from tasks.text import one_line
from tui.diff import coloured
from tui.feed import Agent, Check, Detail
from tui.fleet import number, text_of
from tui.record_page import record
from tui.signs import SIGNS, doing, short
from tui.texts import clean, clock, styled

_BARS: Final = 40
_NOTES: Final = 200


def page(name: str, detail: Detail, agent: Agent, now: float, *, dark: bool) -> list[RenderableType]:
    """One of `tui.feed.PAGES`, as pieces from top to bottom."""
    if detail.missing:
        return [Text(f"{what} cannot be read: {clean(why)}", "bold red") for what, why in detail.missing.items()]
    match name:
        case "timeline":
            return timeline(detail, agent, now)
        case "conversation":
            return conversation(detail)
        case "change":
            return change(detail, dark=dark)
        case "proof":
            return proof(detail)
        case "record":
            return record(detail.record)
        case _:
            return logs(detail)


def timeline(detail: Detail, agent: Agent, now: float) -> list[RenderableType]:
    """Facts, then each step of the loop with its time as a bar, iteration by iteration."""
    facts = Table.grid(padding=(0, 2))
    for name, value in detail.facts:
        facts.add_row(Text(name, "dim"), Text(one_line(value)))
    facts.add_row(Text("state", "dim"), styled(agent.state, f"{SIGNS.get(agent.state, '~')} {agent.state}"))
    if said := doing(agent, now):
        facts.add_row(Text("now" if not agent.ended else "reason", "dim"), Text(said))
    steps = _steps(detail.events, now)
    if not steps:
        return [facts, Text("\nit has not begun", "dim")]
    longest = max(seconds for _, _, seconds, _ in steps) or 1.0
    table = Table.grid(padding=(0, 1))
    for at, state, seconds, said in steps:
        bar = "━" * max(1, round(seconds / longest * _BARS)) if not is_final(state) else ""
        table.add_row(
            Text(clock(at), "dim"),
            styled(state, f"{SIGNS.get(state, '~')} {state}"),
            Text(short(seconds) if bar else "", justify="right"),
            Text(f"{bar} ", "cyan").append(said, "default"),
        )
    return [facts, Text(), table, Text(), _notes(detail.events)]


def _steps(events: Iterable[Event], now: float) -> list[tuple[float, str, float, str]]:
    """When each state began, the state, how long it took in seconds, and what is to be said of it."""
    found: list[tuple[float, str, float, str]] = []
    for event in events:
        if event.kind == "agent.state":
            if found:
                at, state, _, said = found[-1]
                found[-1] = (at, state, max(0.0, event.at - at), said)
            nth = int(number(event.data.get("iterations")))
            state = text_of(event.data.get("state"))
            said = f"iteration {nth} " if nth and state == "generating" else ""
            found.append((event.at, state, 0.0, said + text_of(event.data.get("reason"))))
    if found and not is_final(found[-1][1]):
        at, state, _, said = found[-1]
        found[-1] = (at, state, max(0.0, now - at), said)
    return found


def _notes(events: Iterable[Event]) -> RenderableType:
    """What else happened, a line each; calls of the model are in the conversation."""
    notes = Table.grid(padding=(0, 2))
    for event in [event for event in events if _worth_saying(event)][-_NOTES:]:
        data = {name: value for name, value in event.data.items() if value not in (None, "")}
        said = ", ".join(f"{name} {text_of(value)}" for name, value in data.items())
        notes.add_row(Text(clock(event.at), "dim"), Text(event.kind), Text(said, "dim"))
    return notes


def _worth_saying(event: Event) -> bool:
    if event.kind == "agent.waited":
        return number(event.data.get("seconds")) >= 1
    return event.kind not in ("agent.state", "model.call", "agent.activity")


_SPEAKERS: Final = {
    "ticket": ("the ticket", "bold magenta"),
    "user": ("the user", "bold yellow"),
    "agent": ("the agent", "bold blue"),
    "tool": ("calls {name}", "bold cyan"),
    "result": ("answer", "dim"),
}


def conversation(detail: Detail) -> list[RenderableType]:
    """What was said, newest last."""
    if not detail.said:
        return [Text("nothing was said yet", "dim")]
    shown: list[RenderableType] = []
    for one in detail.said:
        head, style = _SPEAKERS[one.who]
        shown.append(Text(f"{clock(one.at)}  {one_line(head.format(name=one.name))}", style))
        shown.append(Text(clean(one.text), "dim" if one.who == "result" else "default"))
        shown.append(Text())
    return shown


def change(detail: Detail, *, dark: bool) -> list[RenderableType]:
    """The difference against the base, in colours."""
    if not detail.diff:
        return [Text("nothing was committed yet", "dim")]
    return [*coloured(clean(detail.diff), dark=dark)]


def proof(detail: Detail) -> list[RenderableType]:
    """The last verdict: checks with the baseline's answer beside the sandbox's, forks with their hops, the evidence."""
    verdict = detail.verdict
    if verdict is None:
        return [Text("there is no verdict yet", "dim")]
    head = styled(verdict.conclusion, f"{SIGNS.get(verdict.conclusion, '~')} {verdict.conclusion}")
    head.append(f"  commit {verdict.commit[:12]}  ", "dim").append(clean(verdict.reason), "default")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("check", "whose", "baseline", "sandbox", ""):
        table.add_column(column)
    for check in verdict.checks:
        table.add_row(
            Text(one_line(check.name)),
            Text("the ticket's" if check.own else "the repository's", "dim"),
            styled(check.baseline),
            styled(check.sandbox),
            Text("flaky" if check.flaky else "", "yellow"),
        )
    shown: list[RenderableType] = [head, Text(), table, Text()]
    for service, generation, hops in verdict.forks:
        shown.append(Text(f"fork {one_line(service)}, generation {generation}: {hops} hops prove that it served"))
    shown += [Text(f"note: {clean(note)}", "yellow") for note in verdict.notes]
    shown += [_beside(check) for check in verdict.checks if check.sandbox != "pass" or check.baseline != "pass"]
    if verdict.evidence:
        shown += [
            Text("\nevidence, as the agent was given it", "bold"),
            *map(_evidence, clean(verdict.evidence).split("\n")),
        ]
    return shown


def _beside(check: Check) -> RenderableType:
    """What the check said of the baseline, beside what it said in the sandbox."""
    table = Table(title=Text(one_line(check.name), "bold"), title_justify="left", expand=True, header_style="dim")
    table.add_column("baseline", ratio=1)
    table.add_column("sandbox", ratio=1)
    table.add_row(
        styled(check.baseline).append(f"\n{clean(check.baseline_detail)}", "default"),
        styled(check.sandbox).append(f"\n{clean(check.detail)}", "default"),
    )
    return table


def _evidence(line: str) -> Text:
    """A line of evidence: hops and answers stand out."""
    if "your fork" in line:
        return Text(line, "green")
    if " → " in line or " answered " in line:
        return Text(line, "cyan")
    return Text(line, "red" if line.lstrip().startswith(("E ", "Check ")) else "default")


def logs(detail: Detail) -> list[RenderableType]:
    """The last lines of its forks."""
    if not detail.logs:
        return [Text("its sandbox does not live: there are no logs of forks now", "dim")]
    return [
        Text(f"{clock(at)}  ", "dim").append(f"{one_line(service)}  ", "cyan").append(clean(line), "default")
        for at, service, line in detail.logs
    ]
