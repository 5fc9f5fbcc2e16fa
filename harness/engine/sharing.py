"""One budget for all workers of a run: each hears what the others have used, and asks before it uses what is left."""

from __future__ import annotations

from harness.engine.budget import NOTHING, Budget, Caps, Spent
from harness.store.purse import CALLS, COST_USD, TOKENS, Measures, Needs, Purse


async def share(budget: Budget, purse: Purse) -> None:
    """Count in what others of the run use, and what attempts used that were followed by another one; take what is
    needed of what is left. Whatever the budget was charged with is in the store, or on its way there."""
    if not budget.is_shared:
        own = budget.own
        if (used := await purse.alone()) is not None:
            budget.shared(_by_others(used, own), None)
            return
    # What is given back may be taken by others at once: until it is known what is left, no call may count on it.
    budget.stand()
    caps, own, waiting = budget.run, budget.own, budget.waited_for
    needs = Needs(
        busy=_measured(budget.reserved_by_all),
        waiting=_measured(sum(waiting, NOTHING)),
        one=_measured(waiting[0] if waiting else budget.usual),
    )
    held = await purse.take({CALLS: caps.calls, TOKENS: caps.tokens, COST_USD: caps.usd}, needs)
    allowed = None
    if (mine := held.mine) is not None:
        allowed = Caps(
            usd=own.cost_usd + mine[COST_USD], calls=own.calls + mine[CALLS], tokens=own.tokens + mine[TOKENS]
        )
    budget.shared(_by_others(held.used, own), allowed)


def _by_others(used: Measures, own: Spent) -> Spent:
    """An answer to a ticket that was lost meanwhile is among `own`, and not in the store."""
    return Spent(
        max(0, int(used[CALLS]) - own.calls),
        max(0, int(used[TOKENS]) - own.tokens),
        max(0.0, used[COST_USD] - own.cost_usd),
    )


def _measured(spent: Spent) -> Measures:
    return {CALLS: spent.calls, TOKENS: spent.tokens, COST_USD: spent.cost_usd}
