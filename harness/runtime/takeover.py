"""What a run that goes on takes over from a `spurline.yaml` that has changed since, and what has changed in it."""

from __future__ import annotations

import json
from typing import Any, Final

from harness.settings import Settings

_MAY_CHANGE: Final = ("agent", "limits", "submit")
"""What of `spurline.yaml` may be another one when a run goes on: nothing of it judges."""


def taken_over(settings: Settings, other: Settings) -> Settings:
    """`settings` with what a run may take over from `other`."""
    return settings.model_copy(update={name: getattr(other, name) for name in _MAY_CHANGE})


def changes(old: Any, new: Any, at: str = "") -> list[str]:
    """What differs between two documents, a line each: `limits.agents: 100 → 50`."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{at}: {json.dumps(old)} → {json.dumps(new)}"]
    found: list[str] = []
    for name in sorted({*old, *new}):
        found += changes(old.get(name), new.get(name), f"{at}.{name}" if at else name)
    return found
