"""How many calls may be in flight, and how fast they may start: found out from what the provider rejects.

`Window` is the number in flight: additive increase, multiplicative decrease, one decrease a round trip. `Pace` is the
rate, for a provider that rejects by rate and does not say which: a bound on calls in flight finds a rate only by being
rejected again and again.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from harness.engine.bucket import Bucket

DECREASE: Final = 0.8
GROWS_FROM: Final = 0.8
"""The share of the window that must be in use for it to grow."""
ROOM: Final = 1.25
"""How much larger than a rate needs it the window stays."""
_STEPS: Final = 20
"""Round trips from nothing to the most, at least one call each."""
_FIRST_TRIP_S: Final = 5.0
_TRIPS: Final = 10
"""The mean of a round trip is taken over about so many."""

RAMP_PER_S: Final = 50.0
RAMP_DOUBLES_S: Final = 0.1
"""Until the first answer so many start a second, and twice as many each time: a low limit speaks up in time."""
SLOWER: Final = 0.9
MUCH_SLOWER: Final = 0.6
"""When a rejection comes within `_SOON_S` of the last one: the rate is far too high."""
_SOON_S: Final = 5.0
_LOOK_BACK_S: Final = 10.0
"""Over so long it is counted how many calls were let in."""
_PROBE_PER_S: Final = 0.01
_DOUBT_S: Final = 30.0
"""A rate that was found grows by a hundredth a second, and has more than doubled after so long without a rejection."""
_KNOWN_DOUBT_S: Final = 60.0
"""The same where the provider said its limit: nothing needs to be found, and what was lost comes back in the end."""


class Window:
    """How many calls may be in flight. It begins at the most that is allowed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = float(most)
        self._grows_after = self._shrunk_at = -math.inf
        self._trip_s = _FIRST_TRIP_S
        """How long an answer takes, the latest ones counting most."""

    @property
    def size(self) -> int:
        return int(self._size)

    @property
    def most(self) -> int:
        return self._most

    @most.setter
    def most(self, most: int) -> None:
        untroubled = self._size == self._most
        self._size = float(most) if untroubled else min(self._size, float(most))
        self._most = most

    def answered(self, now: float, began: float, in_flight: int) -> None:
        """A call that began then was answered, one of `in_flight`."""
        self._trip_s += (now - began - self._trip_s) / _TRIPS
        if began > self._grows_after and in_flight >= GROWS_FROM * self.size:
            step = max(1.0, self._most / _STEPS) / self._size
            self._size = min(float(self._most), self._size + step)

    def rejected(self, now: float, began: float, per_s: float = 0.0) -> None:
        """A call that began then was one too many. A rejection comes faster than an answer: what was too many shows
        only after a round trip of those that were let in.

        Where the rate of starts is kept to `per_s`, room is left for as many as are then in flight: fewer would only
        be a second brake."""
        if began <= self._shrunk_at or now < self._shrunk_at + self._trip_s:
            return
        self._grows_after = self._shrunk_at = now
        room = min(self._size, ROOM * per_s * self._trip_s)
        self._size = max(1.0, self._size * DECREASE, room)

    def failed(self, now: float) -> None:
        """Something is wrong that fewer calls may not help: those of this round trip do not make it grow."""
        self._grows_after = now


@dataclass(frozen=True, slots=True)
class _Found:
    per_s: float
    at: float
    """When it was found."""
    known: bool
    """Whether the provider had said its limit."""


class Pace:
    """How fast calls may start: at first a ramp, then as they come, and after a rejection as fast as was possible."""

    def __init__(self) -> None:
        self._bucket = Bucket(single=True, per_s=RAMP_PER_S)
        self._starts: deque[float] = deque()
        """Of the last seconds, without those that were rejected."""
        self._ramps = True
        self._found: _Found | None = None

    def wait_s(self, now: float) -> float:
        self._bucket.per_s = self.per_s(now)
        return self._bucket.wait_s(now, 1)

    def per_s(self, now: float) -> float | None:
        """Starts a second; None where as many may start as come."""
        if self._found is None:
            ramp_s = now - self._starts[0] if self._starts else 0.0
            return RAMP_PER_S * 2.0 ** min(ramp_s / RAMP_DOUBLES_S, 20.0) if self._ramps else None
        since_s = now - self._found.at
        if self._found.known:
            return self._found.per_s * (1.0 + (since_s / _KNOWN_DOUBT_S) ** 3)
        return self._found.per_s * (1.0 + _PROBE_PER_S * since_s + (since_s / _DOUBT_S) ** 3)

    def began(self, now: float) -> None:
        self._bucket.take(now, 1)
        self._starts.append(now)
        while self._starts[0] < now - _LOOK_BACK_S:
            self._starts.popleft()

    def answered(self) -> None:
        self._ramps = False

    def rejected(self, now: float, began: float, limit_per_s: float | None = None) -> None:
        """The call that began then was not let in: go on as fast as calls were, or slower than now. What went out
        before the last rejection was heard of tells nothing new.

        Where the provider said its limit, it is its manner of counting that rejects: a little slower will do."""
        if began in self._starts:
            self._starts.remove(began)
        if self._found is not None and began <= self._found.at:
            return
        now_per_s = None if self._found is None else self.per_s(now)
        if limit_per_s is not None:
            self._find(now, SLOWER * min(limit_per_s, now_per_s or limit_per_s), known=True)
        elif self._found is None or now_per_s is None:
            seconds = now - self._starts[0] if self._starts else 0.0
            self._find(now, max(1, len(self._starts)) / max(1.0, seconds))
        else:
            self._find(now, now_per_s * (MUCH_SLOWER if now - self._found.at < _SOON_S else SLOWER))

    def _find(self, now: float, per_s: float, *, known: bool = False) -> None:
        self._found = _Found(per_s, now, known)
        self._bucket.per_s = per_s
        self._bucket.drain(now)
