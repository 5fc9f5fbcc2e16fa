"""The filter of the list: words that must all be found, as they are typed.

`users` is looked for in ticket, title, reason and what is being done; `state:failed` in the state alone; `!word` must
not be found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tasks.states import is_final
from tui.feed import Agent
from tui.fleet import rank

Filter = Callable[[Agent, float], bool]
"""Whether an agent is shown at this moment."""

VIEWS: Final[dict[str, Filter]] = {
    "all": lambda agent, now: True,
    "attention": lambda agent, now: rank(agent, now) <= 5,
    "working": lambda agent, now: not is_final(agent.state) and agent.state != "queued",
    "queued": lambda agent, now: agent.state in ("queued", "paused"),
    "ended": lambda agent, now: is_final(agent.state),
}
"""The views that are at hand by number, in their order."""


def matching(text: str) -> Filter:
    """The filter that `text` says."""
    terms = [_term(word) for word in text.casefold().split()]
    return lambda agent, now: all(term(agent) for term in terms)


def _term(word: str) -> Callable[[Agent], bool]:
    if word.startswith("!") and len(word) > 1:
        other = _term(word[1:])
        return lambda agent: not other(agent)
    name, colon, value = word.partition(":")
    if colon and name == "state":
        return lambda agent: value in agent.state
    return lambda agent: any(
        word in text.casefold() for text in (agent.ticket, agent.title, agent.state, agent.reason, agent.doing)
    )
