"""One budget for all workers of a run: each hears what the others have used, and asks before it uses what is left."""

from __future__ import annotations

from harness.engine.budget import NOTHING, Budget, Caps, Spent
from harness.store.purse import CALLS, COST_USD, TOKENS, Measures, Needs, Purse


async def share(budget: Budget, purse: Purse) -> None:
    """Count in what others of the run use, and what attempts used that were followed by another one; take what is
    needed of what is left. Whatever the budget was charged with is in the store, or on its way there."""
    caps, own, waiting = budget.run, budget.own, budget.waited_for
    needs = Needs(
        busy=_measured(budget.reserved_by_all),
        waiting=_measured(sum(waiting, NOTHING)),
        one=_measured(waiting[0] if waiting else budget.usual),
    )
    held = await purse.take({CALLS: caps.calls, TOKENS: caps.tokens, COST_USD: caps.usd}, needs)
    used = held.used
    # An answer to a ticket that was lost meanwhile is here, and not in the store.
    others = Spent(
        max(0, int(used[CALLS]) - own.calls),
        max(0, int(used[TOKENS]) - own.tokens),
        max(0.0, used[COST_USD] - own.cost_usd),
    )
    allowed = None
    if (mine := held.mine) is not None:
        allowed = Caps(
            usd=own.cost_usd + mine[COST_USD], calls=own.calls + mine[CALLS], tokens=own.tokens + mine[TOKENS]
        )
    budget.shared(others, allowed)


def _measured(spent: Spent) -> Measures:
    return {CALLS: spent.calls, TOKENS: spent.tokens, COST_USD: spent.cost_usd}
