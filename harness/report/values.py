"""The report of a run as one frozen value. Times are seconds since the run began, but for those called `…_at`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of model calls. `input` are those that were neither read from nor written to the cache."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_write

    @property
    def cache_share(self) -> float | None:
        """Of all that the model read, the share that came out of the cache; None where it read nothing."""
        read = self.input + self.cache_read + self.cache_write
        return self.cache_read / read if read else None


@dataclass(frozen=True, slots=True)
class Span:
    """How long an agent stayed in one state."""

    state: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One check of a verdict: `pass`, `fail` or `unjudged` on both sides."""

    name: str
    own: bool
    """Whether it is one of the ticket's own."""
    baseline: str
    sandbox: str
    flaky: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ForkLine:
    """One fork, and how many requests of the checks it is proven to have served."""

    service: str
    generation: int
    hops: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What a verdict rests on."""

    verdict: str
    commit: str
    conclusion: str
    reason: str
    checks: tuple[CheckLine, ...]
    forks: tuple[ForkLine, ...]
    notes: tuple[str, ...]
    evidence: str
    """What was fed back to the agent; empty where there was nothing to."""


@dataclass(frozen=True, slots=True)
class TicketReport:
    """One ticket and its agent."""

    ticket: str
    title: str
    state: str
    reason: str
    attempt: int
    carries_on: int
    """The attempt from whose end this one goes on; 0: none."""
    iterations: int
    sandbox: str | None
    branch: str | None
    commit: str | None
    machine: str
    """The one that worked on it last, whose repository has the branch; empty: none has yet."""
    verdict: str | None
    submission: str | None
    tokens: Tokens
    model_calls: int
    failed_verdicts: int
    faults: int
    """Faults of the environment."""
    nudges: int
    cost_usd: float
    seconds: float
    """From its first step to its end, or to the end of what is known."""
    spans: tuple[Span, ...]
    """In order, without what lies between a killed process and the next one."""
    waits: Mapping[str, float]
    """Seconds in front of each limit."""
    proof: Proof | None
    """Of its last verdict; that is of an earlier commit where it is not `verdict`."""

    def by_state(self) -> dict[str, float]:
        """Seconds in each state that it was in, in the order in which it came there first."""
        found: dict[str, float] = {}
        for span in self.spans:
            found[span.state] = found.get(span.state, 0.0) + span.seconds
        return found


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all tickets."""

    tickets: int
    verified: int
    iterations: int
    model_calls: int
    tokens: Tokens
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Waited:
    """Waiting in front of one limit."""

    limit: str
    """`agents`, `model_calls`, `sandboxes`, `forks`, `checks` or `deletions`."""
    seconds: float
    tickets: int
    """How many had to."""
    share: float
    """Of all agents' working time; of all their time in the queue for `agents`."""


@dataclass(frozen=True, slots=True)
class Hold:
    """From then on one reason held everybody."""

    began: float
    reason: str


@dataclass(frozen=True, slots=True)
class Throughput:
    """What the run's pace came from."""

    agents_limit: int | None
    peak: int
    """The most agents that worked at once."""
    mean: float
    full_share: float
    """Of the run's length, the share in which every slot was taken while a ticket waited."""
    longest: str | None
    """The ticket that took the most time."""
    longest_seconds: float
    waits_noted: bool
    """Whether the run notes waits at all: an older Spurline did not."""
    waits: tuple[Waited, ...]
    """The longest first."""
    holds: tuple[Hold, ...]
    sentences: tuple[str, ...]
    """All of it for people."""


@dataclass(frozen=True, slots=True)
class Course:
    """The run over time, in steps of equal length. Each tuple has one number a step."""

    step_s: float
    working: Mapping[str, tuple[float, ...]]
    """The mean number of agents in each working state."""
    calls: tuple[float, ...]
    """The mean number of model calls in flight."""
    spent_usd: tuple[float, ...]
    """What had been spent at the end of the step."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A ticket that has ended in another state than the earlier run left it in."""

    ticket: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different from the last run of the same backlog."""

    run: str
    base: str
    state: str
    seconds: float
    totals: Totals
    moved: tuple[Moved, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report says."""

    run: str
    project: str
    state: str
    """`running`, `finished`, `interrupted` or `cancelled`."""
    base: str
    spurline: str
    began_at: float
    ended_at: float | None
    """None where nobody has noted an end: it goes on, or was killed."""
    known_at: float
    """Up to when the report knows: the end, or the last event."""
    states: Mapping[str, int]
    """How many tickets are in each state."""
    totals: Totals
    tickets: tuple[TicketReport, ...]
    throughput: Throughput
    course: Course
    changes: Changes | None

    @property
    def seconds(self) -> float:
        return self.known_at - self.began_at

    def by_machine(self) -> dict[str, tuple[str, ...]]:
        """The tickets that each machine worked on last, whose branches its repository has; by its name."""
        names = sorted({ticket.machine for ticket in self.tickets if ticket.machine})
        return {name: tuple(one.ticket for one in self.tickets if one.machine == name) for name in names}
