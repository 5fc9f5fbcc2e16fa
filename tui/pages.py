"""The pages about one agent that are texts: timeline, conversation, change, proof, record, logs; as renderables.

Every text goes through `plain`, and none is read as markup: what an agent writes is shown, never obeyed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tasks.events import Event
from tasks.states import is_final
from tasks.text import one_line, short_span
from tui.diff import coloured
from tui.evidence import logs, proof
from tui.feed import Agent, Detail, Said
from tui.fleet import number, text_of
from tui.record_page import record
from tui.signs import SIGNS, doing
from tui.texts import clean, clock, styled

_BARS: Final = 40
_NOTES: Final = 200
_FOLDED: Final = 8
"""Lines that are shown of something long."""


def page(
    name: str, detail: Detail, agent: Agent, now: float, *, dark: bool, unfolded: bool = False
) -> list[RenderableType]:
    """One of `tui.feed.PAGES`, as pieces from top to bottom; `unfolded`: with all of what is long."""
    if detail.missing:
        return [Text(f"{what} cannot be read: {clean(why)}", "bold red") for what, why in detail.missing.items()]
    match name:
        case "timeline":
            return timeline(detail, agent, now)
        case "conversation":
            return conversation(detail, unfolded=unfolded)
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
            Text(short_span(seconds) if bar else "", justify="right"),
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


def conversation(detail: Detail, *, unfolded: bool) -> list[RenderableType]:
    """What was said, newest last, a piece each. Of what a tool was given and answered, the beginning alone is shown
    until it is unfolded."""
    return [_said(one, unfolded=unfolded) for one in detail.said] or [Text("nothing was said yet", "dim")]


@lru_cache(maxsize=2_000)
def _said(one: Said, *, unfolded: bool) -> Text:
    head, style = _SPEAKERS[one.who]
    lines = clean(one.text).split("\n")
    folded = not unfolded and one.who in ("tool", "result") and len(lines) > _FOLDED + 2
    text = Text(f"{clock(one.at)}  {one_line(head.format(name=one.name))}\n", style)
    text.append("\n".join(lines[:_FOLDED] if folded else lines), "dim" if one.who == "result" else "default")
    if folded:
        text.append(f"\n… {len(lines) - _FOLDED} more lines (z)", "dim italic")
    return text.append("\n")


def change(detail: Detail, *, dark: bool) -> list[RenderableType]:
    """The difference against the base, in colours."""
    if not detail.diff:
        return [Text("nothing was committed yet", "dim")]
    return [*coloured(clean(detail.diff), dark=dark)]
