"""A token bucket as a provider keeps one, seen from here: what may be used now, and when there will be more.

Times are seconds of one clock that only goes forward; the caller brings them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from harness.agents.meter import Allowance

PERIOD_S: Final = 60.0
"""What a provider's limit is for, unless it says that refilling takes longer."""
BELIEF: Final = 0.1
"""The part of what is there beyond our count that is believed at once."""
_LONG_S: Final = 90.0
LATE_S: Final = 0.1
"""Lateness of a timer that is made good; what is later was no timer's fault."""
# Floating point must not keep a call waiting for a billionth of a token.
_DUST: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in the life of a bucket: what had been taken by then."""

    at: float
    taken: float


class Bucket:
    """Refills at `per_s` up to a bound; no limit is known, and none holds, while `per_s` is None."""

    def __init__(self, *, single: bool = False, per_s: float | None = None) -> None:
        """With `single` there is never more than one to take, whatever the provider says: its limit for a minute may
        be enforced by the second. Only what a late timer cost is made good."""
        self._single, self._bound = single, math.inf
        # Nothing refills before the bucket is first looked at.
        self._level, self._at, self._taken = 1.0, math.inf, 0.0
        self._due: float | None = None
        """When the next one may be taken, if somebody waits for it."""
        self.per_s = per_s

    def wait_s(self, now: float, amount: float) -> float:
        """How long until `amount` may be taken; 0 when it may. More than the bucket holds may be taken when it is
        full."""
        if self.per_s is None:
            return 0.0
        self._refill(now)
        missing = min(amount, self._most) - self._level
        if missing <= _DUST:
            return 0.0
        self._due = now + missing / self.per_s
        return self._due - now

    def take(self, now: float, amount: float) -> Mark:
        """Take `amount`, there or not."""
        if self.per_s is not None:
            self._refill(now)
            self._level -= amount
        self._due = None
        self._taken += amount
        return Mark(now, self._taken)

    def correct(self, now: float, more: float) -> None:
        """What was taken turned out to be so much more, or less where `more` is negative."""
        self._refill(now)
        if self.per_s is not None:
            self._level -= more

    def drain(self, now: float) -> None:
        """Go on from an empty bucket."""
        self._level, self._at, self._due = min(self._level, 0.0), now, None

    def told(self, now: float, allowance: Allowance, since: Mark) -> None:
        """Believe what the provider said: it was so at `since`, and has been used and refilled from here since.

        Less than was thought is believed at once. More only little by little: the figure may be from a later moment,
        and too much means rejections, while too little costs nothing for long."""
        first = self.per_s is None
        self.per_s, self._bound = allowance.limit / _period_s(allowance), allowance.limit
        self._refill(now)
        there = allowance.remaining + self.per_s * (now - since.at) - (self._taken - since.taken)
        more = min(there, self._most) - self._level
        self._level += more if first or more < 0 else BELIEF * more

    @property
    def taken(self) -> float:
        return self._taken

    @property
    def _most(self) -> float:
        return min(self._bound, 1.0) if self._single else self._bound

    def _refill(self, now: float) -> None:
        per_s = self.per_s or 0.0
        refilled = min(self._level + per_s * max(0.0, now - self._at), self._most)
        if self._due is not None and 0 < (late_s := now - self._due) <= LATE_S:
            refilled = max(refilled, self._most + per_s * late_s) if self._single else refilled
        self._level, self._at = refilled, now


def _period_s(allowance: Allowance) -> float:
    """How long all of the limit takes to refill. Only a long one shows: moments are told in seconds, by two clocks."""
    used = allowance.limit - allowance.remaining
    if allowance.full_in_s <= _LONG_S or used <= 0:
        return PERIOD_S
    return allowance.full_in_s * allowance.limit / used
