"""Sums of what agents took."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.values import Tokens, Totals
from harness.store.tables import AgentRow


def tokens_of(agent: AgentRow) -> Tokens:
    """The tokens of one agent's calls."""
    return Tokens(agent.input_tokens, agent.output_tokens, agent.cache_read_tokens, agent.cache_write_tokens)


def totals_of(agents: Sequence[AgentRow]) -> Totals:
    """Sums over all agents."""
    return Totals(
        tickets=len(agents),
        verified=sum(agent.state == "verified" for agent in agents),
        iterations=sum(agent.iterations for agent in agents),
        model_calls=sum(agent.model_calls for agent in agents),
        tokens=Tokens(
            input=sum(agent.input_tokens for agent in agents),
            output=sum(agent.output_tokens for agent in agents),
            cache_read=sum(agent.cache_read_tokens for agent in agents),
            cache_write=sum(agent.cache_write_tokens for agent in agents),
        ),
        cost_usd=sum(agent.cost_usd for agent in agents),
    )
