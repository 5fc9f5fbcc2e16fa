"""The limits of a run that can be changed while it goes on, as `spurline.yaml` names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from harness.settings import AgentSettings, LimitSettings
from tasks.errors import UsageError

AT_ONCE: Final = ("agents", "model_calls", "sandboxes", "deletions", "forks", "checks")
"""Of how much of something may happen at once."""
OF_RUN: Final = ("budget_usd", "budget_calls", "budget_tokens", "budget_minutes")
"""Budgets of all tickets together."""
OF_TICKET: Final = (
    "ticket_budget_usd",
    "ticket_calls",
    "ticket_tokens",
    "ticket_minutes",
    "ticket_failed_verdicts",
    "ticket_nudges",
    "max_iterations",
)
"""Budgets of each ticket: of all, or of single ones."""


def limits_of(limits: LimitSettings, agent: AgentSettings) -> dict[str, float]:
    """What the settings say of all of them."""
    said = {name: getattr(limits, name) for name in (*AT_ONCE, *OF_RUN, *OF_TICKET) if name != "max_iterations"}
    return {**said, "max_iterations": agent.max_iterations}


def checked(wanted: Mapping[str, float], *, single: bool = False) -> dict[str, float]:
    """`wanted` as it is kept. UsageError for what is no limit, is none of `single` tickets, or has no such value."""
    said: dict[str, float] = {}
    for name, value in wanted.items():
        option = f"--{name.replace('_', '-')}"
        if name not in (*AT_ONCE, *OF_RUN, *OF_TICKET):
            raise UsageError(f"{name!r} cannot be changed while a run goes on")
        if single and name not in OF_TICKET:
            raise UsageError(f"{option} is the whole run's, not a single ticket's", hint="leave -t away for it")
        model = AgentSettings if name == "max_iterations" else LimitSettings
        try:
            said[name] = getattr(model.model_validate({name: value}), name)
        except ValidationError as error:
            raise UsageError(f"{option} {value:g}: {error.errors()[0]['msg']}") from None
    return said
