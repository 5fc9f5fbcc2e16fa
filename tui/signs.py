"""How things look in few cells: the sign and style of each state, spans of time, text that keeps to its width.

Each sign stands alone: without colour it says the same. A capital letter is the same work, stalled.
"""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len, set_cell_size

from tasks.states import is_final
from tasks.text import one_line, short_span
from tui.feed import Agent
from tui.fleet import stalled

SIGNS: Final = {
    "queued": "·",
    "preparing": "p",
    "generating": "g",
    "checking": "c",
    "instantiating": "i",
    "validating": "v",
    "submitting": "s",
    "paused": "=",
    "verified": "✓",
    "failed": "✗",
    "unproven": "?",
    "needs_human": "!",
    "error": "#",
    "cancelled": "-",
}
STYLES: Final = ("attention", "stalled", "failed", "unproven", "error", "working", "idle", "verified")
"""What a state looks like: component classes of the widgets that draw agents, in `COLOURS`."""
COLOURS: Final = "".join(
    f"\n    & > .sign--{style} {{ {css} }}"
    for style, css in {
        "attention": "color: $text-accent; text-style: bold;",
        "stalled": "color: $text-warning; text-style: bold;",
        "failed": "color: $text-error;",
        "unproven": "color: $text-warning;",
        "error": "color: $text-error; text-style: bold;",
        "working": "color: $text-primary;",
        "idle": "color: $foreground-muted;",
        "verified": "color: $text-success;",
    }.items()
)
CLASSES: Final = frozenset(f"sign--{style}" for style in STYLES)

_STYLE_OF: Final = {
    "needs_human": "attention",
    "error": "error",
    "failed": "failed",
    "unproven": "unproven",
    "verified": "verified",
    "cancelled": "idle",
    "queued": "idle",
    "paused": "idle",
}


def sign(agent: Agent, now: float) -> str:
    """One character for the agent's state."""
    mark = SIGNS.get(agent.state, "~")
    return mark.upper() if stalled(agent, now) else mark


def style(agent: Agent, now: float) -> str:
    """One of `STYLES`."""
    return "stalled" if stalled(agent, now) else _STYLE_OF.get(agent.state, "working")


def legend(states: dict[str, int]) -> str:
    """The signs of these states, each with its word and how many there are."""
    return "  ".join(f"{SIGNS.get(state, '~')} {count} {state}" for state, count in states.items())


def doing(agent: Agent, now: float) -> str:
    """What it does right now, or why it does not; one plain line."""
    wish = f"to be {agent.wish} · " if agent.wish and not is_final(agent.state) and agent.state != agent.wish else ""
    if stalled(agent, now):
        return one_line(f"{wish}nothing heard for {short_span(now - agent.heard)} · {agent.doing or agent.title}")
    return one_line(wish + (agent.doing or agent.reason or agent.title))


def fitted(text: str, width: int) -> str:
    """`text`, one plain line, in exactly `width` cells; wide characters count as two."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"
