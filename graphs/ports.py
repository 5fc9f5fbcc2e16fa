"""What the ticket loop needs from the world, as Protocols. The loop knows these and nothing behind them.

Ports pass ids, words and small numbers: what is big (transcripts, evidence, exchanges) lies where its id says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from tasks.events import EventKind
from tasks.states import AgentState
from tasks.ticket import Ticket

Conclusion = Literal["verified", "failed", "unproven", "needs_human"]
"""What a verdict says of one commit. `failed` and some `unproven` go back to the agent; the rest ends."""


class Stopped(Exception):
    """The ticket is to stop between two steps: a signal, no error. It goes on there when it is taken up again."""


class LeaseLost(Exception):
    """Another worker has the ticket: a signal to let go of it without a word, no error of the user's."""

    def __init__(self, ticket: str) -> None:
        super().__init__(f"another worker has {ticket!r}")
        self.ticket = ticket


Claim = Callable[[str], int | None]
"""The generation in which this worker has a ticket, which grows whenever the ticket changes hands; None where nobody's
claim is to be shown. Raises LeaseLost where somebody else may have it."""


def unclaimed(ticket: str) -> int | None:
    """A Claim of who works where nobody else can."""
    return None


@dataclass(frozen=True, slots=True)
class Work:
    """Where one agent works: made by `Workspaces.prepare`, the same after a resume."""

    run: str
    ticket: Ticket
    branch: str
    base: str
    """The base commit, full sha."""
    worktree: str
    sandbox: str
    """The name of the agent's sandbox."""
    attempt: int = 1
    """Grows when the ticket is retried: each attempt has a branch, a worktree and a conversation of its own."""

    @property
    def name(self) -> str:
        """The ticket and its attempt, as they name files and branches."""
        return attempt_name(self.ticket.id, self.attempt)


def attempt_name(ticket: str, attempt: int) -> str:
    """The first attempt has the ticket's name; `@`, which no id holds, parts a later one's number from it."""
    return ticket if attempt == 1 else f"{ticket}@{attempt}"


@dataclass(frozen=True, slots=True)
class Generated:
    """How one turn of the agent ended."""

    end: Literal["done", "needs_human", "out_of_budget", "stuck"]
    reason: str = ""
    noted: bool = False
    """Whether the user said something to the agent in this turn."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the loop must know of a verdict; the whole of it lies in the store under `id`."""

    id: str
    conclusion: Conclusion
    reason: str
    """One line for people, plain text."""
    feedback: str | None
    """What goes back to the agent; None where it can do nothing about it, and the conclusion is final."""


class Workspaces(Protocol):
    """Worktrees and commits: git, seen from the loop."""

    async def prepare(self, run: str, ticket: Ticket, attempt: int = 1, carries_on: int = 0) -> Work:
        """The place to work, made where it is not there: safe to repeat. It begins with the last commit of the attempt
        `carries_on`, where that is here, else with the base."""
        ...

    async def commit(self, work: Work, message: str) -> str | None:
        """Commit all of the worktree; the new head's full sha, or None when it equals the base's tree."""
        ...

    async def knows(self, commit: str) -> bool:
        """Whether the commit is here: it is not where the ticket was worked on on another machine."""
        ...

    async def tree(self, commit: str) -> str:
        """The sha of what the commit holds: the same for two commits that hold the same files."""
        ...

    async def release(self, work: Work) -> None: ...


class Agent(Protocol):
    """The worker. It keeps its own conversation (by run and ticket); the loop gives it only what is new."""

    async def carry_on(self, work: Work, attempt: int) -> bool:
        """Take over the conversation of an earlier attempt, unless this one has begun: safe to repeat. Whether there
        is one to go on with; on another machine it is not."""
        ...

    async def generate(self, work: Work, message: str, iteration: int) -> Generated:
        """Say what is new, once an iteration however often this is called, and go on with the conversation until the
        agent says that it is done. Raises ModelError."""
        ...


class Validator(Protocol):
    """Static checks, forks and checks; see harness.validation."""

    async def static(self, work: Work, commit: str) -> str | None:
        """Run the static checks on the commit; None when they pass, else what goes back to the agent."""
        ...

    async def instantiate(self, work: Work, commit: str) -> Verdict | None:
        """Fork what the commit changed (or update it). None when the forks are ready, else the verdict that ends or
        feeds back: nothing to judge, out of scope, a fork that did not start."""
        ...

    async def validate(self, work: Work, commit: str, iteration: int) -> Verdict:
        """Run the checks and judge. Raises EnvironmentFault when nothing could be judged."""
        ...

    async def release(self, work: Work) -> None:
        """Delete the sandbox, or leave it alone for as long as it is to be kept."""
        ...


class Submitter(Protocol):
    """Hands a verified commit over."""

    async def submit(self, work: Work, commit: str, verdict: str) -> str:
        """Branch, record; where it went (`branch NAME`). Safe to repeat: looks before it acts."""
        ...


class Journal(Protocol):
    """The append-only story of the run."""

    def emit(self, kind: EventKind, ticket: str | None = None, data: Mapping[str, Any] | None = None) -> Future[Any]:
        """Note one event; never blocks, never fails the caller. What is returned is done when the event is on the disk,
        and raises what kept it from there."""
        ...

    async def move(
        self, ticket: str, state: AgentState, reason: str = "", data: Mapping[str, Any] | None = None
    ) -> None:
        """Move the agent to `state`, durably. To say the same end again changes nothing."""
        ...


class Messages(Protocol):
    """What is said to agents, kept by id: the graph's state holds ids only."""

    async def keep(self, run: str, ticket: str, text: str) -> str: ...
    async def text(self, name: str) -> str: ...


Admit = Callable[[str, str], Awaitable[None]]
"""Called with the ticket and the step before each step that takes long: waits while it cannot be taken (the baseline is
sick), and raises Stopped where the ticket is to stop."""


async def _at_once(ticket: str, step: str) -> None:
    return None


MOST_ITERATIONS: Final = 100


@dataclass(frozen=True, slots=True)
class Caps:
    """How often a ticket may go round, by what made it. Each counts for an attempt, however often it is resumed."""

    iterations: int = 6
    failed_verdicts: int = 10
    nudges: int = 2
    """How often an agent that changes nothing is told so, before it counts as stuck."""


def _usual(ticket: str) -> Caps:
    return Caps()


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that the nodes use, handed to the graph as its LangGraph context."""

    workspaces: Workspaces
    agent: Agent
    validator: Validator
    submitter: Submitter
    journal: Journal
    messages: Messages
    tickets: Mapping[str, Ticket]
    caps: Callable[[str], Caps] = _usual
    """Those of a ticket, as they are by now: asked whenever it could go round once more."""
    admit: Admit = _at_once
