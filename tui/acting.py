"""What a person can do to a run, and the command line that does the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Literal, get_args

from tasks.states import is_final
from tui.feed import Agent, Run

Done = Literal["pause", "resume", "cancel", "retry"]
"""What is done without a further word."""
Written = Literal["note", "answer", "carry on"]
"""What is done with words."""
Verb = Done | Written
WARNINGS: Final[Mapping[Done, str]] = {
    "cancel": "That is for good: it can only be retried.",
    "retry": "Each begins anew, and costs anew.",
}
"""What is said before something that cannot be taken back, or that costs."""
WRITTEN: Final[tuple[Written, ...]] = get_args(Written)

_SHOWN: Final = 3


def command(run: Run, verb: Done, tickets: Sequence[str]) -> str:
    """What one types in a shell to the same end; no tickets stand for the whole run."""
    return _line(run, verb, tickets)


def written_command(run: Run, verb: Written, tickets: Sequence[str], text: str) -> str:
    """The same for what is done with words."""
    if verb == "carry on":
        said = ["--note", text] if text else []
        return _line(run, "retry", tickets, "--carry-on", *said)
    end = ["--"] if text.startswith("-") else []
    return _line(run, verb, tickets, *end, text)


def limit_command(run: Run, limits: Mapping[str, float], tickets: Sequence[str] = ()) -> str:
    """The same for limits and budgets."""
    options = [word for name, most in limits.items() for word in (f"--{name.replace('_', '-')}", figure(most))]
    return _line(run, "limit", tickets, *options)


def keep_command(run: Run, tickets: Sequence[str], time: str) -> str:
    """The same for sandboxes that are kept."""
    return _line(run, "keep", tickets, "--for", time)


def _line(run: Run, verb: str, tickets: Sequence[str], *more: str) -> str:
    chosen = [word for ticket in tickets for word in ("-t", ticket)]
    return f"{run.cli} {shlex.join(['runs', verb, run.id, *chosen, *more])}"


def time_of(text: str) -> float | None:
    """A length of time as `--for` takes it, in seconds; None where it is none."""
    # Half of what the screen would import is behind this one function.
    from tasks.ticket import seconds

    with suppress(ValueError):
        found = seconds(text)
        return found if isinstance(found, float) and found > 0 else None
    return None


def figure(number: float) -> str:
    """A number as one types it."""
    return str(int(number)) if number == int(number) else str(number)


def concerned(verb: Verb, agents: Iterable[Agent]) -> tuple[str, ...]:
    """The tickets of those to whom the verb can be done."""
    if verb == "answer":
        return tuple(one.ticket for one in agents if one.state == "needs_human")
    ended = verb in ("retry", "carry on")
    return tuple(one.ticket for one in agents if is_final(one.state) == ended and one.state != "verified")


def asks(verb: Done, tickets: Sequence[str]) -> bool:
    """Whether it is asked before it is done to these tickets; none stand for the whole run."""
    return verb == "cancel" or (verb == "retry" and len(tickets) != 1)


def named(tickets: Sequence[str]) -> str:
    """Tickets in words: few by name, more by number."""
    if not tickets:
        return "the whole run"
    if len(tickets) <= _SHOWN:
        return ", ".join(tickets)
    return f"{len(tickets)} tickets"
