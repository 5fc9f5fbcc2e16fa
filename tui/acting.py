"""What a person can do to a run, and the command line that does the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, get_args

from tasks.states import is_final
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


def limit_command(run: str, limits: Mapping[str, int]) -> str:
    """The same for limits."""
    options = [word for name, most in limits.items() for word in (f"--{name.replace('_', '-')}", str(most))]
    return shlex.join(["spurline", "runs", "limit", run, *options])


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
