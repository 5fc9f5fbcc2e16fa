"""The rate limits of a rehearsal: token buckets for requests, input and output, as the real API has them.

A request that finds a bucket empty is refused with 429, `retry-after` in whole seconds and the `anthropic-ratelimit-*`
headers; those stand on every answer. Cache reads do not count. Output is counted when it is given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What a provider allows."""

    requests_per_s: float = math.inf
    burst: int = 1
    """Requests that may come at once after a pause."""
    input_tokens_per_min: float = math.inf
    output_tokens_per_min: float = math.inf
    headers: bool = True
    """Whether it says so; gateways leave these headers out."""
    retry_after: bool = True


NO_LIMIT: Final = RateLimit()


class RateLimiter:
    """The buckets of one provider."""

    def __init__(self, limit: RateLimit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._buckets = {
            "requests": _Bucket(limit.requests_per_s, limit.burst, clock),
            "input-tokens": _Bucket(limit.input_tokens_per_min / _MINUTE_S, limit.input_tokens_per_min, clock),
            "output-tokens": _Bucket(limit.output_tokens_per_min / _MINUTE_S, limit.output_tokens_per_min, clock),
        }
        self.answered = self.rejected = 0

    @property
    def counts_input(self) -> bool:
        return math.isfinite(self._limit.input_tokens_per_min)

    def admit(self, uncached_tokens: int) -> float | None:
        """Let a request in, or say in how many seconds to try again."""
        wants = {"requests": 1, "input-tokens": uncached_tokens, "output-tokens": 0}
        wait_s = max(self._buckets[name].wait_s(amount) for name, amount in wants.items())
        if wait_s > 0:
            self.rejected += 1
            return wait_s
        self.answered += 1
        for name, amount in wants.items():
            self._buckets[name].take(amount)
        return None

    def gave(self, output_tokens: int) -> None:
        """Count the output of an answer."""
        self._buckets["output-tokens"].take(output_tokens)

    def headers(self, wait_s: float | None = None) -> Mapping[str, str]:
        """What an answer says of the limits, and a refusal of when to come back."""
        said = {"retry-after": str(math.ceil(wait_s))} if wait_s is not None and self._limit.retry_after else {}
        for name, bucket in self._buckets.items():
            if self._limit.headers and math.isfinite(bucket.per_s):
                full_at = datetime.fromtimestamp(time.time() + bucket.full_in_s(), UTC)
                said[f"anthropic-ratelimit-{name}-limit"] = f"{bucket.per_s * _MINUTE_S:.0f}"
                said[f"anthropic-ratelimit-{name}-remaining"] = f"{max(0, math.floor(bucket.level()))}"
                said[f"anthropic-ratelimit-{name}-reset"] = full_at.isoformat(timespec="seconds")
        return said


class _Bucket:
    def __init__(self, per_s: float, most: float, clock: Callable[[], float]) -> None:
        self.per_s, self._most, self._clock = per_s, most, clock
        self._level, self._at = most, clock()

    def level(self) -> float:
        now = self._clock()
        if math.isfinite(self.per_s):
            self._level = min(self._most, self._level + self.per_s * (now - self._at))
        self._at = now
        return self._level

    def wait_s(self, amount: float) -> float:
        """Until there is `amount`, or the bucket is full; output that was given may leave it below nothing."""
        missing = min(amount, self._most) - self.level()
        return missing / self.per_s if missing > 0 and math.isfinite(self.per_s) else 0.0

    def take(self, amount: float) -> None:
        if math.isfinite(self.per_s):
            self._level = self.level() - amount

    def full_in_s(self) -> float:
        return (self._most - self.level()) / self.per_s
