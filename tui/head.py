"""The lines above the list: which run, how far, how fast, how dear, how long still, and what limits it."""

from __future__ import annotations

from rich.text import Text

from tasks.text import short_span
from tui.feed import Run
from tui.fleet import Fleet, left_s, limiting, per_minute
from tui.signs import legend


def headline(fleet: Fleet, run: Run, now: float, *, replayed: bool = False) -> Text:
    """The run in one line."""
    state = "replay" if replayed else standing(run)
    money = f"{fleet.cost_usd:.2f} USD"
    if run.budget_usd:
        money += f" of {run.budget_usd:g}"
    pace = per_minute(fleet, run.began, now)
    left = left_s(fleet, run) if run.state == "running" else None
    parts = [
        f"{fleet.ended}/{len(fleet.agents)} ended",
        short_span((run.ended if run.over and run.ended else now) - run.began),
        money,
        f"{pace:.1f} a minute" if pace and run.state == "running" else "",
        f"about {short_span(left)} left" if left is not None else "",
    ]
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{run.project} ", "bold")
    text.append(f" {state} ", "reverse bold" if state in ("replay", "interrupted", "paused") else "bold")
    text.append("  " + " · ".join(part for part in parts if part))
    text.append(f"  {run.id}", "dim")
    return text


def standing(run: Run) -> str:
    """How the run stands, in a word or two."""
    if run.wish and not run.over:
        return run.wish if run.wish != "cancelled" else "to be cancelled"
    return run.state


def totals(fleet: Fleet) -> Text:
    """How many agents are in each state, with the sign of it."""
    return Text(legend(fleet.totals()), no_wrap=True, overflow="ellipsis")


def ended(fleet: Fleet, run: Run) -> str:
    """How a run has ended, in a line."""
    return f"{run.state}: {', '.join(f'{count} {state}' for state, count in fleet.totals().items())}"


def limits(fleet: Fleet, run: Run, now: float, *, over: bool = False) -> Text:
    """What limits the run, or that nobody works on it; `over`: that it has ended meanwhile."""
    text = Text(no_wrap=True, overflow="ellipsis")
    if over:
        text.append(f"the run has ended; q leaves the screen · {ended(fleet, run)}", "bold")
    elif run.state == "interrupted":
        text.append(f"nobody works on it: `{run.cli} runs resume {run.id}` goes on", "bold")
    elif run.state == "running":
        text.append(f"limited by {said}" if (said := limiting(fleet, run, now)) else "nothing limits it")
    return text
