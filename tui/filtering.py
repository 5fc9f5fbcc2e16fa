"""The filter of the list: words that must all be found, as they are typed.

`users` is looked for in ticket, title, reason and what is being done; `state:failed` in the state alone,
`verdict:failed` in the last verdict; `service:users` may change that service; `is:` one of `IS`; `!word` must not be
found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tasks.states import is_final
from tui.feed import Agent
from tui.fleet import IDLE_STATES, rank, stalled

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
IS: Final[dict[str, Filter]] = {
    **VIEWS,
    "stalled": stalled,
    "idle": lambda agent, now: agent.state in IDLE_STATES,
}
"""What `is:` can say. Who is idle has nothing to do; who is stalled has, and is silent."""
Services = Mapping[str, Sequence[str]]
"""The services that each ticket may change, by ticket."""


def matching(text: str, services: Services | None = None) -> Filter:
    """The filter that `text` says."""
    terms = [_term(word, services or {}) for word in text.casefold().split()]
    return lambda agent, now: all(term(agent, now) for term in terms)


def _term(word: str, services: Services) -> Filter:
    if word.startswith("!") and len(word) > 1:
        other = _term(word[1:], services)
        return lambda agent, now: not other(agent, now)
    name, _, value = word.partition(":")
    match name:
        case "state" if value:
            return lambda agent, now: value in agent.state
        case "verdict" if value:
            return lambda agent, now: value in agent.verdict
        case "service" if value:
            return lambda agent, now: any(value in one.casefold() for one in services.get(agent.ticket, ()))
        case "is" if value in IS:
            return IS[value]
    return lambda agent, now: any(
        word in text.casefold() for text in (agent.ticket, agent.title, agent.state, agent.reason, agent.doing)
    )
