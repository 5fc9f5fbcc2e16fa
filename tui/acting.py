"""What a person can do to a run, and the command line that does the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Literal, get_args

from tasks.states import is_final
from tasks.ticket import seconds
from tui.feed import Agent

Done = Literal["pause", "resume", "cancel", "retry"]
"""What is done without a further word."""
Written = Literal["note", "answer", "carry on"]
"""What is done with words."""
Verb = Done | Written
WRITTEN: Final[tuple[Written, ...]] = get_args(Written)

_SHOWN: Final = 3


def command(run: str, verb: Done, tickets: Sequence[str]) -> str:
    """What one types in a shell to the same end; no tickets stand for the whole run."""
    return shlex.join(["spurline", "runs", verb, run, *_chosen(tickets)])


def written_command(run: str, verb: Written, tickets: Sequence[str], text: str) -> str:
    """The same for what is done with words."""
    if verb == "carry on":
        said = ["--note", text] if text else []
        return shlex.join(["spurline", "runs", "retry", run, *_chosen(tickets), "--carry-on", *said])
    end = ["--"] if text.startswith("-") else []
    return shlex.join(["spurline", "runs", verb, run, *_chosen(tickets), *end, text])


def limit_command(run: str, limits: Mapping[str, float], tickets: Sequence[str] = ()) -> str:
    """The same for limits and budgets."""
    options = [word for name, most in limits.items() for word in (f"--{name.replace('_', '-')}", figure(most))]
    return shlex.join(["spurline", "runs", "limit", run, *_chosen(tickets), *options])


def keep_command(run: str, tickets: Sequence[str], time: str) -> str:
    """The same for sandboxes that are kept."""
    return shlex.join(["spurline", "runs", "keep", run, *_chosen(tickets), "--for", time])


def time_of(text: str) -> float | None:
    """A length of time as `--for` takes it, in seconds; None where it is none."""
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


def named(tickets: Sequence[str]) -> str:
    """Tickets in words: few by name, more by number."""
    if not tickets:
        return "the whole run"
    if len(tickets) <= _SHOWN:
        return ", ".join(tickets)
    return f"{len(tickets)} tickets"


def _chosen(tickets: Sequence[str]) -> list[str]:
    return [word for ticket in tickets for word in ("-t", ticket)]
