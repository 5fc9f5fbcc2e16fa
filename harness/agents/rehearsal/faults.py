"""Faults on demand: what the next calls are to suffer, in the order in which they arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Self

from pydantic import Field, model_validator

from tasks.ticket import Frozen


class Fault(Frozen):
    """What happens to one call; exactly one of the four."""

    status: int | None = Field(default=None, ge=400, le=599)
    """Answer with this status and the API's error body."""
    retry_after: float | None = Field(default=None, ge=0)
    """Seconds, sent along with `status`."""
    message: str | None = None
    """The error's text, where the usual one does not do."""
    stall_s: float | None = Field(default=None, gt=0)
    """Begin the answer, then say nothing for so long."""
    pings: bool = False
    """Send pings while it stalls, as the API does while a model thinks."""
    cut: bool = False
    """Begin the answer, then close the connection."""
    garbage: bool = False
    """Begin the answer, then send what is no event."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum((self.status is not None, self.stall_s is not None, self.cut, self.garbage)) != 1:
            raise ValueError("give exactly one of status, stall_s, cut, garbage")
        if self.pings and self.stall_s is None:
            raise ValueError("pings go with stall_s")
        return self


class FaultOrder(Frozen):
    """The body of `POST /_faults`."""

    next: tuple[Fault, ...]


class Faults:
    """The faults still to come."""

    def __init__(self) -> None:
        self._next: deque[Fault] = deque()

    def order(self, faults: Iterable[Fault]) -> None:
        self._next.extend(faults)

    def take(self) -> Fault | None:
        """The fault of the call that has just arrived."""
        return self._next.popleft() if self._next else None

    def __len__(self) -> int:
        return len(self._next)
