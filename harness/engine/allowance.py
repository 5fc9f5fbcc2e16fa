"""Budgets by their names in `spurline.yaml`, as the engine and the loop hold them."""

from __future__ import annotations

from collections.abc import Mapping

from graphs.ports import Caps as Rounds
from harness.engine.budget import Caps


def run_caps(said: Mapping[str, float]) -> Caps:
    """What all tickets together may use."""
    return Caps(
        usd=said["budget_usd"],
        calls=said["budget_calls"],
        tokens=said["budget_tokens"],
        minutes=said["budget_minutes"],
    )


def ticket_caps(said: Mapping[str, float]) -> Caps:
    """What one ticket may use."""
    return Caps(
        usd=said["ticket_budget_usd"],
        calls=said["ticket_calls"],
        tokens=said["ticket_tokens"],
        minutes=said["ticket_minutes"],
    )


def rounds(said: Mapping[str, float]) -> Rounds:
    """How often one ticket may go round."""
    return Rounds(int(said["max_iterations"]), int(said["ticket_failed_verdicts"]), int(said["ticket_nudges"]))
