"""Many tickets at once: the pool, the limits, the budget, and the supervisor that owns their lives."""
