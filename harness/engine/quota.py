"""The provider's own limits, as its headers tell them: requests, input and output tokens, each a bucket.

A call takes what it is expected to use, and what it really used is put in the place of that when it ends. No limit
holds before the provider has told one. Times are seconds of one clock; the caller brings them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from harness.agents.meter import Allowance, ModelCall, Wanted
from harness.engine.bucket import Bucket, Mark

_FIRST_OUTPUT: Final = 500
"""Output tokens of a call before any is known; most only call tools."""
_MEAN_OVER: Final = 20


@dataclass(frozen=True, slots=True)
class Share:
    """What one call has taken."""

    limits_known: bool
    """Whether the provider's limits were known as it began."""
    requests: Mark
    input: Mark
    input_tokens: int
    output_tokens: float


class Quota:
    """What may be used now. A ticket is asked about since its calls are much alike."""

    def __init__(self) -> None:
        self._requests = Bucket(single=True)
        self._input, self._output = Bucket(), Bucket()
        self._outputs: dict[str, int] = {}
        """Of the last call of each ticket."""
        self._mean_output = float(_FIRST_OUTPUT)
        self._output_reserved = 0.0

    @property
    def requests_per_s(self) -> float | None:
        """None while the provider has told no limit."""
        return self._requests.per_s

    def wait_s(self, now: float, ticket: str, wanted: Wanted) -> float:
        """How long until such a call may start; 0 when it may."""
        return max(
            self._requests.wait_s(now, 1),
            self._input.wait_s(now, wanted.uncached_tokens),
            self._output.wait_s(now, self._expected_output(ticket, wanted)),
        )

    def take(self, now: float, ticket: str, wanted: Wanted) -> Share:
        """A call starts."""
        output = self._expected_output(ticket, wanted)
        self._output.take(now, output)
        self._output_reserved += output
        return Share(
            limits_known=self._requests.per_s is not None,
            requests=self._requests.take(now, 1),
            input=self._input.take(now, wanted.uncached_tokens),
            input_tokens=wanted.uncached_tokens,
            output_tokens=output,
        )

    def told(self, now: float, share: Share, allowances: Sequence[Allowance]) -> None:
        """The provider answered a call with what is left."""
        for allowance in allowances:
            if allowance.resource == "requests":
                self._requests.told(now, allowance, share.requests)
            elif allowance.resource == "input_tokens":
                self._input.told(now, allowance, share.input)
            else:
                # Output is counted as it is written: nothing of what is in flight is in these figures.
                self._output.told(now, allowance, Mark(now, self._output.taken - self._output_reserved))

    def settle(self, now: float, ticket: str, share: Share, billed: Sequence[ModelCall], *, heard: bool) -> None:
        """A call has ended: put what was `billed` in the place of what was reserved. `heard`: the provider said what it
        left, and its figure has the call's input in it."""
        used = sum(call.output_tokens for call in billed)
        self._output.correct(now, used - share.output_tokens)
        self._output_reserved -= share.output_tokens
        if not heard:
            self._input.correct(now, sum(call.uncached_tokens for call in billed) - share.input_tokens)
        if billed:
            self._outputs[ticket] = used
            self._mean_output += (used - self._mean_output) / _MEAN_OVER

    def _expected_output(self, ticket: str, wanted: Wanted) -> float:
        return min(wanted.max_output_tokens, self._outputs.get(ticket, self._mean_output))
