"""What the ticket loop needs from the world, as Protocols. The loop knows these and nothing behind them.

Ports pass ids, words and small numbers: what is big (transcripts, evidence, exchanges) lies where its id says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tasks.events import EventKind
from tasks.states import AgentState
from tasks.ticket import Ticket

Conclusion = Literal["verified", "failed", "unproven", "needs_human"]
"""What a verdict says of one commit. `failed` and some `unproven` go back to the agent; the rest ends."""


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


@dataclass(frozen=True, slots=True)
class Generated:
    """How one turn of the agent ended."""

    end: Literal["done", "needs_human", "out_of_budget", "stuck"]
    reason: str = ""


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

    async def prepare(self, run: str, ticket: Ticket) -> Work: ...
    async def commit(self, work: Work, message: str) -> str | None:
        """Commit all of the worktree; the new head's full sha, or None when it equals the base's tree."""
        ...

    async def release(self, work: Work) -> None: ...


class Agent(Protocol):
    """The worker. It keeps its own conversation (by run and ticket); the loop gives it only what is new."""

    async def generate(self, work: Work, message: str) -> Generated:
        """Go on with the conversation until the agent says that it is done. Raises ModelError."""
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
        """Delete the sandbox, or leave it to its lease where it is to be kept."""
        ...


class Submitter(Protocol):
    """Hands a verified commit over."""

    async def submit(self, work: Work, commit: str, verdict: str) -> str:
        """Branch, record; where it went (`branch NAME`). Safe to repeat: looks before it acts."""
        ...


class Journal(Protocol):
    """The append-only story of the run."""

    def emit(self, kind: EventKind, ticket: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Note one event; never blocks, never fails the caller."""
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
    max_iterations: int
