"""The ports of the ticket loop in memory, played from a script: what the loop's and the engine's tests drive it with.

They do what the contract in graphs.ports says, note every call, and hold the journal to tasks.states.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from graphs.ports import Caps, Generated, Ports, Verdict, Work, attempt_name
from tasks.events import EventKind
from tasks.states import AgentState, is_final, may_move
from tasks.ticket import Ticket

Entry = TypeVar("Entry")
Before = Callable[[str, str], Awaitable[None]]
"""Called with the ticket and the name of the port's method, before the method does anything."""


def verdict(conclusion: Any, feedback: str | None = None, name: str = "v") -> Verdict:
    return Verdict(f"{name}-{conclusion}", conclusion, f"it is {conclusion}", feedback)


VERIFIED = verdict("verified")


@dataclass
class Script:
    """What happens to one ticket, call by call; the last entry of a list holds for all further calls."""

    turns: list[Generated] = field(default_factory=lambda: [Generated("done")])
    trees: list[str | None] = field(default_factory=list)
    """What `commit` answers; empty: a new commit each time."""
    static: list[str | None] = field(default_factory=lambda: [None])
    forks: list[Verdict | None] = field(default_factory=lambda: [None])
    verdicts: list[Verdict] = field(default_factory=lambda: [VERIFIED])


class World:
    """All ports but the worktrees', for any number of tickets."""

    def __init__(self, tickets: Iterable[Ticket], scripts: Mapping[str, Script] | None = None) -> None:
        self.tickets = {ticket.id: ticket for ticket in tickets}
        self.scripts = dict(scripts or {})
        self.calls: list[tuple[str, str]] = []
        self.before: list[Before] = []
        self.heard: dict[str, list[str]] = {}
        """What each agent was told, in order."""
        self.submitted: dict[str, tuple[str, str]] = {}
        self.out: set[str] = set()
        """Tickets with a worktree."""
        self.sandboxes: set[str] = set()
        self.trees: dict[str, str] = {}
        """What commits hold, where two of them hold the same."""
        self.elsewhere: set[str] = set()
        """Commits that are on another machine."""
        self.journal = MemoryJournal()
        self._kept: dict[str, str] = {}
        self.workspaces = MemoryWorkspaces(self)

    def ports(self, caps: Caps | None = None) -> Ports:
        return Ports(self.workspaces, self, self, self, self.journal, self, self.tickets, lambda _: caps or Caps())

    def names(self, ticket: str) -> list[str]:
        """The calls made for one ticket."""
        return [name for of, name in self.calls if of == ticket]

    async def called(self, ticket: str, name: str) -> Script:
        self.calls.append((ticket, name))
        for before in self.before:
            await before(ticket, name)
        return self.scripts.setdefault(ticket, Script())

    async def carry_on(self, work: Work, attempt: int) -> bool:
        await self.called(work.ticket.id, "carry on")
        return work.ticket.id in self.heard

    async def generate(self, work: Work, message: str, iteration: int) -> Generated:
        script = await self.called(work.ticket.id, "generate")
        self.heard.setdefault(work.ticket.id, []).append(message)
        return _next(script.turns)

    async def static(self, work: Work, commit: str) -> str | None:
        return _next((await self.called(work.ticket.id, "static")).static)

    async def instantiate(self, work: Work, commit: str) -> Verdict | None:
        script = await self.called(work.ticket.id, "instantiate")
        self.sandboxes.add(work.sandbox)
        return _next(script.forks)

    async def validate(self, work: Work, commit: str, iteration: int) -> Verdict:
        return _next((await self.called(work.ticket.id, "validate")).verdicts)

    async def submit(self, work: Work, commit: str, verdict: str) -> str:
        await self.called(work.ticket.id, "submit")
        self.submitted[work.ticket.id] = (commit, verdict)
        return f"branch {work.branch}"

    async def release(self, work: Work) -> None:
        await self.called(work.ticket.id, "delete sandbox")
        self.sandboxes.discard(work.sandbox)

    async def keep(self, run: str, ticket: str, text: str) -> str:
        name = f"m{len(self._kept)}"
        self._kept[name] = text
        return name

    async def text(self, name: str) -> str:
        return self._kept[name]


class MemoryWorkspaces:
    """Worktrees and commits of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._commits: dict[str, int] = {}

    async def prepare(self, run: str, ticket: Ticket, attempt: int = 1, carries_on: int = 0) -> Work:
        await self._world.called(ticket.id, "prepare")
        self._world.out.add(ticket.id)
        name = attempt_name(ticket.id, attempt)
        tree = f"/state/worktrees/{run}/{name}"
        return Work(run, ticket, f"spurline/{run}/{name}", "b" * 40, tree, f"{ticket.id}-sandbox", attempt)

    async def commit(self, work: Work, message: str) -> str | None:
        script = await self._world.called(work.ticket.id, "commit")
        if script.trees:
            return _next(script.trees)
        self._commits[work.ticket.id] = self._commits.get(work.ticket.id, 0) + 1
        return f"{self._commits[work.ticket.id]:040x}"

    async def knows(self, commit: str) -> bool:
        return commit not in self._world.elsewhere

    async def tree(self, commit: str) -> str:
        return self._world.trees.get(commit, commit[::-1])

    async def release(self, work: Work) -> None:
        await self._world.called(work.ticket.id, "release worktree")
        self._world.out.discard(work.ticket.id)


def noted() -> Future[Any]:
    """What a journal returns for an event that is on the disk."""
    done: Future[Any] = Future()
    done.set_result(True)
    return done


class MemoryJournal:
    """The story in memory; an illegal move fails the test that made it."""

    def __init__(self) -> None:
        self.states: dict[str, list[AgentState]] = {}
        self.reasons: dict[str, str] = {}
        self.data: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[str, str | None, dict[str, Any]]] = []

    def emit(self, kind: EventKind, ticket: str | None = None, data: Mapping[str, Any] | None = None) -> Future[Any]:
        self.events.append((kind, ticket, dict(data or {})))
        return noted()

    async def move(
        self, ticket: str, state: AgentState, reason: str = "", data: Mapping[str, Any] | None = None
    ) -> None:
        story = self.states.setdefault(ticket, ["queued"])
        if is_final(state) and story[-1] == state:
            return
        assert may_move(story[-1], state), f"{story[-1]} -> {state}"
        story.append(state)
        self.reasons[ticket] = reason
        self.data.setdefault(ticket, {}).update(data or {})


def ticket(name: str = "t1", **fields: Any) -> Ticket:
    return Ticket(id=name, title=f"Ticket {name}", **fields)


def _next(entries: list[Entry]) -> Entry:
    return entries.pop(0) if len(entries) > 1 else entries[0]
