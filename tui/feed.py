"""What the screen asks of whoever knows the run. `harness` fulfils it over the store; tests do it out of memory.

All texts may come from agents, services and tickets: they are values here, and made plain where they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from sandbox.hops import Lost
from sandbox.seen import Seen
from tasks.events import Event

LIMITS: Final = ("agents", "model_calls", "sandboxes", "forks", "checks", "deletions")
"""What can be limited while a run goes on."""
RUN_BUDGETS: Final = ("budget_usd", "budget_calls", "budget_tokens", "budget_minutes")
"""Budgets of all tickets together."""
TICKET_BUDGETS: Final = (
    "ticket_budget_usd",
    "ticket_calls",
    "ticket_tokens",
    "ticket_minutes",
    "ticket_failed_verdicts",
    "ticket_nudges",
    "max_iterations",
)
"""Budgets of each ticket: of all, or of single ones."""
PAGES: Final = ("timeline", "conversation", "change", "proof", "hops", "record", "logs")
"""What can be read about one agent."""


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent as it is. Times are seconds since the epoch, 0 where they are not known."""

    ticket: str
    title: str = ""
    state: str = "queued"
    reason: str = ""
    wish: str = ""
    """What the user wants of it: nothing, `paused` or `cancelled`."""
    attempt: int = 1
    iteration: int = 0
    doing: str = ""
    verdict: str = ""
    """What the last verdict concluded; empty before the first one."""
    cost_usd: float = 0.0
    model_calls: int = 0
    began: float = 0.0
    ended: float = 0.0
    since: float = 0.0
    """When it came into its state."""
    heard: float = 0.0
    """When it was last heard of."""
    budgets: Mapping[str, float] = field(default_factory=dict)
    """Those of `TICKET_BUDGETS` that are its own."""


@dataclass(frozen=True, slots=True)
class Run:
    """The run that is looked at."""

    id: str
    project: str
    state: str
    """`running`, `interrupted`, `finished` or `cancelled`."""
    began: float
    ended: float = 0.0
    wish: str = ""
    worked_on: bool = False
    """Whether a process works on it."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Those of `LIMITS` that are known."""
    budgets: Mapping[str, float] = field(default_factory=dict)
    """Those of `RUN_BUDGETS` and `TICKET_BUDGETS` that are known."""
    cli: str = "spurline"
    """How a command about it begins in a shell where the screen was started: with `-C` where that is elsewhere."""

    @property
    def budget_usd(self) -> float | None:
        """The money of all tickets together."""
        return self.budgets.get("budget_usd")

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return self.state in ("finished", "cancelled")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The run and its agents, in the backlog's order, in one moment; `recent` are the events that came last before it,
    oldest first."""

    run: Run
    agents: tuple[Agent, ...]
    recent: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class News:
    """What came since it was asked last. `stale`: something changed that no event tells, so take a snapshot anew."""

    run: Run
    events: tuple[Event, ...]
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """One piece of an agent's conversation."""

    at: float
    who: Literal["ticket", "agent", "tool", "result", "user"]
    text: str
    name: str = ""
    """Of a tool: what it is called."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a verdict: what it said of the baseline and in the sandbox."""

    name: str
    own: bool
    """Whether it is the ticket's, not the repository's."""
    baseline: str
    sandbox: str
    baseline_detail: str = ""
    detail: str = ""
    flaky: bool = False
    asked: str = ""
    """Of an HTTP check its request: method and path, headers, an empty line, the body; of a command its words."""
    seen: Seen = field(default_factory=Seen)
    """What was seen of its last run in the sandbox that says something."""
    baseline_seen: Seen = field(default_factory=Seen)
    """What is on record of it on the baseline."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What validation concluded, with its evidence."""

    id: str
    conclusion: str
    reason: str
    commit: str
    checks: tuple[Check, ...] = ()
    forks: tuple[tuple[str, int, int], ...] = ()
    """Service, generation, and how many hops prove that it served."""
    notes: tuple[str, ...] = ()
    evidence: str = ""
    lost: tuple[Lost, ...] = ()
    """Where the key was lost."""


@dataclass(frozen=True, slots=True)
class Record:
    """A verification record, as it lies on the disk, and whether it holds."""

    path: str
    command: str
    """What checks it in a shell."""
    sound: bool
    """Whether it is whole, signed by the project's key, and concludes what its own facts say."""
    reason: str
    """Why not, or what it says, in a line."""
    other: str = ""
    """Why it is not about this ticket as it stands; empty where it is."""
    key: str = ""
    """The fingerprint of the key that signed it, or is said to have."""
    says: tuple[tuple[str, str], ...] = ()
    """What it says: names and values, in the order in which they are shown. Nothing, unless its signature holds."""
    forks: tuple[tuple[str, int, int], ...] = ()
    """Service, generation, and how many hops prove that it served."""
    checks: tuple[tuple[str, str, str, str], ...] = ()
    """Name, outcome on the baseline, outcomes in the sandbox run by run, and the digest of what the check is."""


@dataclass(frozen=True, slots=True)
class Living:
    """A sandbox that lives."""

    name: str
    preview: str
    """The keyed URL of the entry: what is asked there reaches the forks."""
    lease_ends: float
    forks: tuple[tuple[str, int, bool], ...] = ()
    """Service, generation, and whether its process runs."""
    faults: tuple[str, ...] = ()
    """Services that are made to answer 503."""


@dataclass(frozen=True, slots=True)
class Links:
    """Where a ticket's things are outside of the screen; empty where they are not, or not any more."""

    ticket: str
    preview: str = ""
    """The keyed URL of its sandbox's entry."""
    worktree: str = ""
    """The folder in which its agent works."""
    changed: tuple[str, ...] = ()
    """Files in it that its commit changed, each as a path that begins with `./`."""
    branch: str = ""
    commit: str = ""
    show: str = ""
    """The command that shows the ticket."""
    restore: str = ""
    """The command that makes a worktree of its branch."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One ticket. Facts and events are always there, the rest where it was asked for."""

    ticket: str
    facts: tuple[tuple[str, str], ...]
    """Branch, commit, sandbox, submission and the like: names and values, in the order in which they are shown."""
    events: tuple[Event, ...]
    said: tuple[Said, ...] = ()
    """The newest part of the conversation, oldest first."""
    verdict: Verdict | None = None
    record: Record | None = None
    diff: str = ""
    """In git's own form, of the last commit against the base; empty before the first one."""
    logs: tuple[tuple[float, str, str], ...] = ()
    """Moment, service and line of its forks, while its sandbox lives."""
    sandbox: Living | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    """What could not be read, and why."""


class Feed(Protocol):
    """One run. Every method raises SpurlineError where it cannot do its work; the next call may. What is damaged may
    come to any other exception: the screen says so, and goes on."""

    async def snapshot(self) -> Snapshot:
        """The run as it is now; `news` goes on from here."""

    async def news(self) -> News:
        """What happened since the last call, or the snapshot. Cheap enough for four times a second."""

    async def services(self) -> Mapping[str, Sequence[str]]:
        """The services that each ticket may change, by ticket; what is not known is left out."""

    async def story(self) -> tuple[Event, ...]:
        """All events from which a fleet can be made, oldest first."""

    async def detail(self, ticket: str, page: str) -> Detail:
        """What one of `PAGES` shows of a ticket."""

    async def links(self, ticket: str) -> Links:
        """What of a ticket can be gone to."""

    async def pause(self, tickets: Sequence[str]) -> str:
        """Let these tickets (none: the run) stop at their next step. What was done, in a sentence."""

    async def resume(self, tickets: Sequence[str]) -> str:
        """Take a pause back. What was done, in a sentence."""

    async def cancel(self, tickets: Sequence[str]) -> str:
        """End them now and for good. What was done, in a sentence."""

    async def retry(self, tickets: Sequence[str]) -> str:
        """Queue them again, who ended without being verified. What was done, in a sentence."""

    async def note(self, tickets: Sequence[str], text: str) -> str:
        """Tell agents at work something, before their next model call. What was done, in a sentence."""

    async def answer(self, tickets: Sequence[str], text: str) -> str:
        """Answer who asked a human: each carries on with it. What was done, in a sentence."""

    async def carry_on(self, tickets: Sequence[str], text: str) -> str:
        """Queue them again, who ended without being verified, to go on from there; `text`, if there is one, is what
        they are told first. What was done, in a sentence."""

    async def limit(self, limits: Mapping[str, float], tickets: Sequence[str] = ()) -> str:
        """Change some of `LIMITS` and budgets, or `TICKET_BUDGETS` of these tickets. What was done, in a sentence."""

    async def keep(self, tickets: Sequence[str], for_s: float) -> str:
        """Have their sandboxes live for so long from now on, also where they end. What was done, in a sentence."""
