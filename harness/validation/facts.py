"""What is known when a commit is judged: plain facts, no opinion. `None` is 'not known', and never verifies."""

from __future__ import annotations

from dataclasses import dataclass

from harness.validation.results import Outcome
from sandbox.hops import Lost


@dataclass(frozen=True, slots=True)
class ScopeFacts:
    """Where the change lies."""

    services: tuple[str, ...]
    """Services whose code the change touches."""
    altered: tuple[str, ...] = ()
    """Protected paths that it alters or deletes."""
    added: tuple[str, ...] = ()
    """Files that it adds in protected paths."""
    outside: tuple[str, ...] = ()
    """Paths that the ticket does not allow to change."""
    submodules: tuple[str, ...] = ()
    """Submodules that it changes: a checkout has none of their code."""
    leading_out: tuple[str, ...] = ()
    """Symlinks of services that it makes to places outside of the commit."""
    unjudged: tuple[str, ...] = ()
    """Paths that belong to no service: allowed, but nothing that runs can prove them."""


@dataclass(frozen=True, slots=True)
class StaticFacts:
    """One static check, on the commit's own files and, where it did not pass there, on the base's."""

    command: str
    outcome: Outcome
    base: Outcome | None
    """None where it was not asked, since it passed on the commit."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ForkFacts:
    """One fork of the sandbox at the time of judging."""

    service: str
    generation: int
    commit: str | None
    """What it runs; None for a folder."""
    hops: int
    """Requests of the checks that this generation served."""
    alive: bool = True
    """Whether its process still ran after the checks."""


@dataclass(frozen=True, slots=True)
class CheckFacts:
    """One judging check: what it said of the baseline and, run by run, of the sandbox."""

    name: str
    own: bool
    """Whether it is one of the ticket's own checks."""
    baseline: Outcome
    runs: tuple[Outcome, ...]
    """On the same commit, in order."""
    forks: tuple[str, ...] = ()
    """Forks whose current generation served at least one of its requests."""
    lost: tuple[Lost, ...] = ()
    """Where the key was lost in each of its runs on the way to a fork: of one that failed, to a fork that it did not
    reach; of one that passed, to any."""
    detail: str = ""
    """What it said in the run that decided."""
    baseline_detail: str = ""
    baseline_flaky: bool = False
    """Whether it changed its answer on the untouched baseline."""
    unasked: tuple[str, ...] = ()
    """Forks of services that it asked on the baseline, and that none of its runs asked here."""
    passed_over: tuple[str, ...] = ()
    """Errors that forks answered to neighbours in each of its runs, all passed, and that the baseline does not."""

    @property
    def flaky(self) -> bool:
        """Whether it changed its answer on the same commit."""
        return len({outcome == "pass" for outcome in self.runs}) > 1

    @property
    def always_passes(self) -> bool:
        return bool(self.runs) and all(outcome == "pass" for outcome in self.runs)

    def held(self, repeat: int) -> bool:
        """Whether it passed in the sandbox. The ticket's own, and any that did not pass at once, must do so `repeat`
        times in a row."""
        needed = repeat if self.own or any(outcome != "pass" for outcome in self.runs) else 1
        return len(self.runs) >= needed and all(outcome == "pass" for outcome in self.runs[-needed:])

    def turned(self, repeat: int) -> bool:
        """Whether it is the ticket's own and went from red on the baseline to green in the sandbox."""
        return self.own and self.baseline == "fail" and self.held(repeat)


@dataclass(frozen=True, slots=True)
class PlantFacts:
    """The planted fault: one fork answered 503, and which check turned red by it."""

    service: str
    turned_red: str | None
    served: int
    """How many requests of the check the fault answered."""


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What the router's records say against the run of the checks."""

    dropped: int
    refused: int
    unrouted: int
    old_generation: int
    where: tuple[str, ...] = ()
    """The services that asked or were asked in a refused, unrouted or old hop."""

    @property
    def clean(self) -> bool:
        return not (self.dropped or self.refused or self.unrouted or self.old_generation)


@dataclass(frozen=True, slots=True)
class BaselineFacts:
    """The baseline around the run of the checks."""

    version_before: str
    version_after: str
    healthy_before: bool
    healthy_after: bool

    @property
    def steady(self) -> bool:
        """Whether it was healthy and the same before and after."""
        return self.healthy_before and self.healthy_after and self.version_before == self.version_after


@dataclass(frozen=True, slots=True)
class Facts:
    """All that `judge` looks at."""

    commit: str
    base: str
    judged_from: str | None
    """The commit whose tree the judging checks and settings were taken from."""
    judges_intact: bool
    """Whether that tree was found unchanged before every use."""
    scope: ScopeFacts
    static: tuple[StaticFacts, ...] | None
    forks: tuple[ForkFacts, ...]
    checks: tuple[CheckFacts, ...]
    planted: tuple[PlantFacts, ...]
    records: RecordFacts | None
    baseline: BaselineFacts | None
    repeat: int
    preserve: bool = False
    lost: tuple[Lost, ...] = ()
    """Where the key was lost in any run of a check."""

    @property
    def own_checks(self) -> tuple[CheckFacts, ...]:
        """The ticket's own."""
        return tuple(check for check in self.checks if check.own)
