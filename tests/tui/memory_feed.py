"""A feed out of memory: the screen's port, fulfilled by a list of events. What was asked of it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sandbox.hops import Lost
from sandbox.seen import Seen, SeenExchange, SeenHop
from tasks.errors import SpurlineError
from tasks.events import Event, EventKind
from tui.feed import Agent, Check, Detail, Links, Living, News, Record, Run, Said, Snapshot, Verdict

BEGAN = 1_700_000_000.0
STATES = (
    ("needs_human", "which currency is meant?"),
    ("error", "the sandbox could not be made"),
    ("failed", "out of budget after 4 iterations"),
    ("unproven", "the key was lost at legacy"),
    ("verified", "2 of the ticket's checks turned from red to green"),
    ("cancelled", "cancelled by the user"),
    ("generating", ""),
    ("checking", ""),
    ("instantiating", ""),
    ("validating", ""),
    ("paused", ""),
    ("queued", "waits for a free agent"),
)
"""Every look that an agent can have, with its reason."""


@dataclass
class MemoryFeed:
    """Implements tui.feed.Feed."""

    run: Run
    agents: tuple[Agent, ...]
    events: list[Event] = field(default_factory=list)
    """All that happened; what comes behind those already read is news."""
    details: Mapping[str, Detail] = field(default_factory=dict)
    linked: Mapping[str, Links] = field(default_factory=dict)
    changeable: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The services that tickets may change."""
    failure: SpurlineError | None = None
    """What every question is answered with, where it is set."""
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    read: int = 0

    async def snapshot(self) -> Snapshot:
        self._check()
        self.read = len(self.events)
        return Snapshot(self.run, self.agents, tuple(self.events))

    async def news(self) -> News:
        self._check()
        fresh, self.read = tuple(self.events[self.read :]), len(self.events)
        return News(self.run, fresh)

    async def services(self) -> Mapping[str, Sequence[str]]:
        self._check()
        return self.changeable

    async def story(self) -> tuple[Event, ...]:
        self._check()
        return tuple(self.events)

    async def detail(self, ticket: str, page: str) -> Detail:
        self._check()
        return self.details.get(ticket, Detail(ticket, (), ()))

    async def links(self, ticket: str) -> Links:
        self._check()
        return self.linked.get(ticket, Links(ticket, show=f"spurline runs show {self.run.id} -t {ticket}"))

    async def pause(self, tickets: Sequence[str]) -> str:
        return self._act("pause", tickets)

    async def resume(self, tickets: Sequence[str]) -> str:
        return self._act("resume", tickets)

    async def cancel(self, tickets: Sequence[str]) -> str:
        return self._act("cancel", tickets)

    async def retry(self, tickets: Sequence[str]) -> str:
        return self._act("retry", tickets)

    async def note(self, tickets: Sequence[str], text: str) -> str:
        return self._act("note", tickets, text)

    async def answer(self, tickets: Sequence[str], text: str) -> str:
        return self._act("answer", tickets, text)

    async def carry_on(self, tickets: Sequence[str], text: str) -> str:
        return self._act("carry on", tickets, text)

    async def limit(self, limits: Mapping[str, float], tickets: Sequence[str] = ()) -> str:
        return self._act("limit", limits, *tickets)

    async def keep(self, tickets: Sequence[str], for_s: float) -> str:
        return self._act("keep", tickets, for_s)

    def _act(self, verb: str, about: Sequence[str] | Mapping[str, float], *more: str | float) -> str:
        self._check()
        self.asked.append((verb, dict(about) if isinstance(about, Mapping) else tuple(about), *more))
        return f"{verb} is done"

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure


def happened(kind: EventKind, ticket: str | None, after: float, **data: Any) -> Event:
    """An event so many seconds after the run began."""
    return Event(kind, "20231114-221320-abcd", ticket, data, BEGAN + after)


def fleet_feed(copies: int = 1, *, state: str = "finished") -> MemoryFeed:
    """A run in which every look is there, `copies` times."""
    run = Run(
        id="20231114-221320-abcd",
        project="shop",
        state=state,
        began=BEGAN,
        ended=BEGAN + 100 if state == "finished" else 0.0,
        worked_on=state == "running",
        limits={"agents": 20, "checks": 4},
        budgets={"budget_usd": 200.0, "ticket_budget_usd": 4.0, "ticket_minutes": 60.0, "max_iterations": 6},
    )
    agents: list[Agent] = []
    for copy in range(copies):
        for place, (word, reason) in enumerate(STATES):
            agent = Agent(
                f"{word.replace('_', '-')}-{copy:02d}",
                f"Make {word} work",
                state=word,
                reason=reason,
                iteration=place % 4,
                cost_usd=place / 10,
            )
            if word != "queued":
                agent = replace(agent, began=BEGAN + place, since=BEGAN + place, heard=BEGAN + 95)
            if word in ("needs_human", "error", "failed", "unproven", "verified", "cancelled"):
                agent = replace(agent, ended=BEGAN + 60 + place)
            agents.append(agent)
    return MemoryFeed(run, tuple(agents))


def told_feed() -> MemoryFeed:
    """A run of two tickets that is over, told by its events."""
    feed = fleet_feed()
    first, second = "users", "orders"
    events = [happened("run.started", None, 0, tickets=[first, second])]
    for ticket, later in ((first, 1.0), (second, 2.0)):
        events += [
            happened("agent.state", ticket, later, state="preparing"),
            happened("agent.state", ticket, later + 2, state="generating", iterations=1),
            happened("agent.activity", ticket, later + 3, doing="read services/users/api.py"),
            happened("model.call", ticket, later + 5, cost_usd=0.25),
            happened("agent.state", ticket, later + 10, state="checking"),
            happened("agent.state", ticket, later + 20, state="validating"),
            happened("verdict", ticket, later + 30, conclusion="verified", verdict="abc", reason="all is proven"),
            happened("agent.state", ticket, later + 31, state="submitting"),
            happened("agent.state", ticket, later + 40, state="verified", reason="all is proven"),
        ]
    feed.events = sorted(events, key=lambda event: event.at)
    ended = {first: BEGAN + 41, second: BEGAN + 42}
    feed.agents = tuple(
        Agent(
            ticket,
            f"Mend {ticket}",
            state="verified",
            reason="all is proven",
            iteration=1,
            cost_usd=0.25,
            began=ended[ticket] - 40,
            ended=ended[ticket],
        )
        for ticket in (first, second)
    )
    return feed


CHARGED = (
    SeenHop("client", "gateway", "POST", "/orders", 201, "baseline"),
    SeenHop("gateway", "orders", "POST", "/orders", 201, "baseline"),
    SeenHop("orders", "users", "GET", "/v2/users/7", 200, "fork", 2),
)
FAILING = (
    SeenHop("client", "gateway", "POST", "/orders", 402, "baseline"),
    SeenHop("gateway", "orders", "POST", "/orders", 402, "baseline"),
    SeenHop("orders", "users", "GET", "/v2/users/8", 200, "fork", 2, times=3),
    SeenHop("orders", "payments", "POST", "/charges", 400, "baseline", origin=True),
)
REFUSED = SeenExchange(
    "orders",
    "payments",
    "POST",
    "/charges",
    400,
    'content-type: application/json\n\n{"customer": {"id": 7, "currency": null}}',
    'content-type: application/json\n\n{"error": "currency must be one of EUR, [bold]GBP[/bold]"}',
)
"""What payments answered for real when a customer came without a currency."""
TAKEN = SeenExchange(
    "orders",
    "payments",
    "POST",
    "/charges",
    201,
    "",
    'content-type: application/json\n\n{"charged": {"currency": "EUR"}}',
)
"""What it answered on the baseline."""


def detailed(ticket: str, events: Sequence[Event] = ()) -> Detail:
    """Everything that can be known of a ticket."""
    checks = (
        Check("an order is charged", True, "fail", "pass", "expected status 201, got 404", "", seen=Seen(CHARGED)),
        Check(
            "integration",
            False,
            "pass",
            "fail",
            "",
            "1 of 17 tests failed: [bold]not markup[/bold]",
            asked="pytest tests/integration",
            seen=Seen(FAILING, (REFUSED,)),
            baseline_seen=Seen(
                (SeenHop("orders", "payments", "POST", "/charges", 201, "baseline", times=4),), (TAKEN,)
            ),
        ),
    )
    verdict = Verdict(
        id="abc",
        conclusion="failed",
        reason="check 'integration' fails",
        commit="c0ffee" * 6,
        checks=checks,
        forks=(("users", 2, 56),),
        notes=("a check is flaky",),
        evidence="Check 'integration' does not pass.\n  orders → users  GET /v2/users/7  200  your fork",
        lost=(Lost("legacy", "payments"),),
    )
    diff = (
        "diff --git a/app.py b/app.py\n--- a/app.py\n+++ b/app.py\n"
        "@@ -1,2 +1,2 @@\n def f():\n-    return 1\n+    return 2\n"
    )
    said = (
        Said(BEGAN + 1, "ticket", "Mend it"),
        Said(BEGAN + 2, "agent", "I read it first"),
        Said(BEGAN + 3, "tool", "file_path: app.py", "read"),
        Said(BEGAN + 4, "result", "def f(): ..."),
    )
    logs = ((BEGAN + 5, "users", "listening on 8080"),)
    facts = (("branch", f"spurline/run/{ticket}"),)
    living = Living(
        "failed-00-1a2b3c", "http://127.0.0.1:4711", BEGAN + 700, (("users", 2, True), ("orders", 1, False))
    )
    record = Record(
        path="/shop/.spurline/runs/r/t/record.json",
        command="spurline verify /shop/.spurline/runs/r/t/record.json",
        sound=True,
        reason="verified",
        key="7428a9",
        says=(("conclusion", "verified"), ("commit", "c0ffee" * 6), ("tree", "[bold]d0d0[/bold]")),
        forks=(("users", 2, 56),),
        checks=(("an order is charged", "fail", "pass, pass", "5d327aaad9b27a6f0000"),),
    )
    return Detail(ticket, facts, tuple(events), said, verdict, record, diff, logs, living)
