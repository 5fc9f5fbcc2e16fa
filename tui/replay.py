"""A run played again: the fleet as it was at any moment of its story."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from tasks.errors import UsageError
from tasks.events import Event
from tui.fleet import Fleet

_EACH: Final = 1000
_MOST: Final = 100
SPEEDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class Story:
    """All events of a run. A fleet is kept every thousand events, of a long story a hundred in all: any moment is near
    one."""

    def __init__(self, start: Fleet, events: Sequence[Event]) -> None:
        self._events = sorted(events, key=lambda event: event.at)
        self._times = [event.at for event in self._events]
        self._each = max(_EACH, len(self._events) // _MOST)
        self._kept = [start]
        for first in range(0, len(self._events) - self._each + 1, self._each):
            self._kept.append(self._kept[-1].after(self._events[first : first + self._each]))
        self._last = (0, start)
        """How many events the fleet that was asked for last has behind it: what is played goes on from there."""

    @property
    def began(self) -> float:
        """Its first moment; 0 where nothing happened."""
        return self._times[0] if self._times else 0.0

    @property
    def ended(self) -> float:
        """Its last moment."""
        return self._times[-1] if self._times else 0.0

    def at(self, moment: float) -> Fleet:
        """The fleet as it was then."""
        place = bisect_right(self._times, moment)
        near = place // self._each
        behind, fleet = near * self._each, self._kept[near]
        if behind < self._last[0] <= place:
            behind, fleet = self._last
        self._last = place, fleet.after(self._events[behind:place])
        return self._last[1]


class Player:
    """Where a replay stands. It is moved by whoever knows the time."""

    def __init__(self, story: Story, moment: float | None = None, *, speed: float = 10.0) -> None:
        self.story, self.speed, self.playing = story, speed, moment is None
        self.moment = self._inside(story.began if moment is None else moment)

    def advance(self, seconds: float) -> None:
        """So much time has passed on the clock."""
        if self.playing:
            self.seek(self.moment + seconds * self.speed)
            self.playing = self.moment < self.story.ended

    def seek(self, moment: float) -> None:
        """Go to a moment; the story's ends hold."""
        self.moment = self._inside(moment)

    def step(self, share: float) -> None:
        """Go on, or back, by a share of the whole."""
        self.seek(self.moment + share * (self.story.ended - self.story.began))

    def toggle(self) -> None:
        """Play, or stand still; at the end, play from the beginning."""
        if not self.playing and self.moment >= self.story.ended:
            self.moment = self.story.began
        self.playing = not self.playing

    def faster(self, by: int) -> None:
        """The next speed, or with -1 the one before."""
        place = min(range(len(SPEEDS)), key=lambda index: abs(SPEEDS[index] - self.speed))
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, place + by))]

    @property
    def share(self) -> float:
        """How far it is, from 0 to 1."""
        whole = self.story.ended - self.story.began
        return (self.moment - self.story.began) / whole if whole > 0 else 1.0

    def _inside(self, moment: float) -> float:
        return max(self.story.began, min(moment, self.story.ended))


def moment_of(text: str, began: float) -> float:
    """What `--at` says: `+90`, `+1m30s` after the beginning; `14:05` or `14:05:30` on the day of the run, or in
    the night after it; or a date and time in ISO form. UsageError for what is none of these."""
    try:
        if text.startswith("+"):
            return began + _span(text[1:])
        if "T" in text or "-" in text:
            return datetime.fromisoformat(text).timestamp()
        parts = [int(part) for part in text.split(":")]
        if len(parts) not in (2, 3):
            raise ValueError
        day = time.localtime(began)
        hour, minute, second = [*parts, 0][:3]
        found = datetime(day.tm_year, day.tm_mon, day.tm_mday, hour, minute, second).timestamp()  # noqa: DTZ001 - local time is meant
        return found if found >= began - 1 else found + 86_400
    except ValueError:
        raise UsageError(
            f"--at {text!r} is no moment", hint="for example --at 14:05:30, --at +90 or --at 2026-05-01T14:05:30"
        ) from None


def _span(text: str) -> float:
    """`90`, `90s`, `1m30s`, `2h`, in seconds. ValueError for anything else."""
    if text.replace(".", "", 1).isdigit():
        return float(text)
    total, digits = 0.0, ""
    for character in text:
        if character.isdigit():
            digits += character
        elif digits and character in "hms":
            total, digits = total + int(digits) * {"h": 3600, "m": 60, "s": 1}[character], ""
        else:
            raise ValueError(text)
    if digits or not text:
        raise ValueError(text)
    return total
