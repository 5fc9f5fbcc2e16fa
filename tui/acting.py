"""What a person can do to a run, and the command line that does the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from tasks.states import is_final
from tui.feed import Agent

Verb = Literal["pause", "resume", "cancel", "retry"]

_SHOWN: Final = 3


def command(run: str, verb: Verb, tickets: Sequence[str]) -> str:
    """What one types in a shell to the same end; no tickets stand for the whole run."""
    return shlex.join(["spurline", "runs", verb, run, *(word for ticket in tickets for word in ("-t", ticket))])


def limit_command(run: str, limits: Mapping[str, int]) -> str:
    """The same for limits."""
    options = [word for name, most in limits.items() for word in (f"--{name.replace('_', '-')}", str(most))]
    return shlex.join(["spurline", "runs", "limit", run, *options])


def concerned(verb: Verb, agents: Iterable[Agent]) -> tuple[str, ...]:
    """The tickets of those to whom the verb can be done."""
    ended = verb == "retry"
    return tuple(one.ticket for one in agents if is_final(one.state) == ended and one.state != "verified")


def named(tickets: Sequence[str]) -> str:
    """Tickets in words: few by name, more by number."""
    if not tickets:
        return "the whole run"
    if len(tickets) <= _SHOWN:
        return ", ".join(tickets)
    return f"{len(tickets)} tickets"
