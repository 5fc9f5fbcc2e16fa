"""What the API's headers say of its limits: `anthropic-ratelimit-*` and `retry-after`, as its reference has them.

`…-limit` is what a period allows, `…-remaining` what is left of it (tokens rounded to thousands), `…-reset` the moment,
in RFC 3339, at which all of it is there again. Headers that a gateway left out or wrote otherwise are passed over.
"""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from harness.agents.meter import Allowance, Resource

_NAMES: Final[Mapping[str, Resource]] = {
    "requests": "requests",
    "input-tokens": "input_tokens",
    "output-tokens": "output_tokens",
}


def allowances_in(headers: Mapping[str, str]) -> tuple[Allowance, ...]:
    """What the provider says that is left, of each resource that it speaks of."""
    now = _moment(headers.get("date", ""), email.utils.parsedate_to_datetime) or time.time()
    found = (_allowance(headers, f"anthropic-ratelimit-{name}", resource, now) for name, resource in _NAMES.items())
    return tuple(allowance for allowance in found if allowance is not None)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long not to try again, from seconds or an HTTP date."""
    said = headers.get("retry-after", "")
    if (seconds := _number(said)) is not None:
        return max(0.0, seconds)
    if (moment := _moment(said, email.utils.parsedate_to_datetime)) is None:
        return None
    now = _moment(headers.get("date", ""), email.utils.parsedate_to_datetime) or time.time()
    return max(0.0, moment - now)


def _allowance(headers: Mapping[str, str], prefix: str, resource: Resource, now: float) -> Allowance | None:
    limit, remaining = _number(headers.get(f"{prefix}-limit", "")), _number(headers.get(f"{prefix}-remaining", ""))
    if limit is None or remaining is None or limit <= 0:
        return None
    reset = _moment(headers.get(f"{prefix}-reset", ""), datetime.fromisoformat)
    return Allowance(resource, limit, min(max(0.0, remaining), limit), max(0.0, (reset or now) - now))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _moment(text: str, parse: Callable[[str], datetime]) -> float | None:
    """Seconds since the epoch."""
    try:
        return parse(text).timestamp()
    except ValueError:
        return None
