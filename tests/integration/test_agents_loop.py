"""Whole agents: the real SDK, a real rehearsal server, real files and commands, a real git work tree.

Only the running system is stood in for: it has suites of its own, and the agent sees it through the driver's port.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from ruamel.yaml import YAML
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

from graphs.ports import Agent, Generated, Work
from harness.agents.conversation import flaw, text_of
from harness.agents.factory import build_agent
from harness.agents.meter import Meter, OpenMeter
from harness.agents.rehearsal.server import serve_rehearsal
from harness.agents.transcript import Origin, Transcript, read
from harness.engine.budget import Budget, Caps
from harness.engine.model_limits import ModelLimits
from harness.settings import AgentSettings
from harness.store.notes import Note
from sandbox.driver import Baseline, Cursor, Fork, LogLine, Sandbox, Source, Start, Window
from sandbox.exchanges import Exchange
from sandbox.hops import Hop
from sandbox.keys import RoutingKey
from sandbox.service import System
from tasks.errors import ModelError, SandboxGone
from tasks.events import EventKind
from tasks.states import AgentState
from tasks.ticket import Ticket
from tests.unit.memory_ports import noted

MakeRepo = Callable[[Mapping[str, str]], Path]
OPENING = "Ticket one: Greet in the plural\n\nPlease."
KEY = RoutingKey("0123456789abcdef")


class StandIn:
    """A driver whose system is one HTTP server, or nothing yet."""

    def __init__(self, url: str | None = None) -> None:
        self.url = url

    async def get(self, name: str) -> Sandbox:
        if self.url is None:
            raise SandboxGone(f"there is no sandbox {name!r}")
        fork = Fork("greeter", 1, "c" * 40, "127.0.0.1:1", 1, 0.1, 0.0, alive=True)
        return Sandbox(name, KEY, {"greeter": fork}, {"greeter": self.url, "users": self.url}, 0.0, 1)

    async def cursor(self) -> Cursor:
        return Cursor(at=1.0, offset=10, dropped=0)

    async def window(self, name: str, since: Cursor) -> Window:
        hop = Hop(1.0, 2.0, "client", "greeter", KEY, ("header",), None, "fork", 1, "127.0.0.1:1", "GET", "/hello", 400)
        failed = Exchange(1.0, "greeter", "users", KEY, "GET", "/users/1", 400, {}, "", {}, '{"error": "no currency"}')
        return Window(since.at, 2.0, (hop,), (), (failed,), 0)

    async def logs(self, service: str, *, sandbox: str | None, since: float = 0.0) -> tuple[LogLine, ...]:
        return (LogLine(1.0, f"{service} of {sandbox or 'the baseline'} says password=hunter2"),)

    async def up(self, system: System, commit: str, *, lease_s: float | None = None) -> Baseline:
        raise NotImplementedError

    async def baseline(self) -> Baseline | None:
        raise NotImplementedError

    async def hold(self, *, lease_s: float) -> None:
        raise NotImplementedError

    async def down(self) -> None:
        raise NotImplementedError

    async def create(self, name: str, *, ttl_s: float, sources: Mapping[str, Source] | None = None) -> Sandbox:
        raise NotImplementedError

    async def fork(self, name: str, sources: Mapping[str, Source]) -> Sandbox:
        raise NotImplementedError

    async def renew(self, name: str, *, ttl_s: float) -> Sandbox:
        raise NotImplementedError

    async def list(self) -> tuple[Sandbox, ...]:
        raise NotImplementedError

    async def delete(self, name: str) -> None:
        raise NotImplementedError

    async def starts(self) -> tuple[Start, ...]:
        raise NotImplementedError

    async def gc(self, *, dry_run: bool = False) -> tuple[str, ...]:
        raise NotImplementedError

    async def plant(self, name: str, service: str | None) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


@dataclass
class Notes:
    """A journal in memory."""

    events: list[tuple[str, str | None, Mapping[str, Any]]] = field(default_factory=list)

    def emit(self, kind: EventKind, ticket: str | None = None, data: Mapping[str, Any] | None = None) -> Future[Any]:
        self.events.append((kind, ticket, data or {}))
        return noted()

    async def move(
        self, ticket: str, state: AgentState, reason: str = "", data: Mapping[str, Any] | None = None
    ) -> None:
        raise NotImplementedError

    def doings(self) -> list[str]:
        return [data["doing"] for kind, _, data in self.events if kind == "agent.activity"]


@dataclass
class Board:
    """What the user has said, in memory."""

    notes: list[Note] = field(default_factory=list)
    told_ids: list[int] = field(default_factory=list)

    def waiting(self, work: Work) -> tuple[Note, ...]:
        return tuple(note for note in self.notes if note.id not in self.told_ids)

    async def told(self, work: Work, notes: Sequence[Note]) -> None:
        self.told_ids += [note.id for note in notes]


class Stage:
    """Everything that one test needs: recordings, a repository, and agents that come and go."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.meter, self.notes, self.driver, self.board = OpenMeter(), Notes(), StandIn(), Board()
        self.settings = AgentSettings(kind="rehearsal", model="claude-sonnet-5-5", max_tokens=1000, turns=20)
        self.base_url = ""

    def record(self, *turns: Mapping[str, Any], ticket: str = "one") -> None:
        path = self.folder / "recordings" / f"{ticket}.yaml"
        path.parent.mkdir(exist_ok=True)
        with path.open("w") as file:
            YAML().dump({"ticket": ticket, "turns": list(turns)}, file)

    def work(self, ticket: str = "one") -> Work:
        return Work(
            "run",
            Ticket(id=ticket, title="Greet in the plural"),
            f"spurline/run/{ticket}",
            "b" * 40,
            str(self.root),
            "s",
        )

    @asynccontextmanager
    async def rehearsing(self, *copies: str) -> AsyncIterator[None]:
        """The rehearsal server; `copies` are tickets that play the recording of `one`."""
        recordings = self.folder / "recordings"
        async with serve_rehearsal(recordings, copies=dict.fromkeys(copies, "one")) as self.base_url:
            yield

    def agent(self, meter: Meter | None = None) -> AbstractAsyncContextManager[Agent]:
        async def diagnostics(work: Work) -> str:
            return f"checked {Path(work.worktree).name}: \x1b[31m2 problems\x1b[0m"

        return build_agent(
            self.settings,
            driver=self.driver,
            meter=meter or self.meter,
            notes=self.board,
            journal=self.notes,
            transcripts=self.folder / "transcripts",
            repo_root=self.root,
            state=self.folder / "state",
            entry="greeter",
            diagnostics=diagnostics,
            base_url=self.base_url,
        )

    async def play(self, *turns: Mapping[str, Any], message: str = OPENING) -> Generated:
        self.record(*turns)
        async with self.rehearsing(), self.agent() as agent:
            return await agent.generate(self.work(), message, 1)

    @property
    def transcript(self) -> Path:
        return self.folder / "transcripts" / "run" / "one.jsonl"

    def results(self) -> list[tuple[str, bool]]:
        """All tool results so far: text, and whether it was marked as an error."""
        return [
            (text_of({"role": "user", "content": [block]}), bool(block.get("is_error")))
            for entry in read(self.transcript)
            for block in entry.content
            if block["type"] == "tool_result"
        ]

    def said_by(self, origin: Origin) -> list[str]:
        return [text_of(entry.message) for entry in read(self.transcript) if entry.origin == origin]

    def calls_before(self, said: str) -> int:
        """How many messages of the model stand before this text."""
        entries = takewhile(lambda entry: text_of(entry.message) != said, read(self.transcript))
        return sum(entry.origin == "agent" for entry in entries)

    def nudges(self) -> list[str]:
        return self.said_by("harness")


@pytest.fixture
def stage(tmp_path: Path, make_repo: MakeRepo) -> Stage:
    return Stage(
        tmp_path, make_repo({"app.py": "def greet():\n    return 'hello'\n", "lib/words.py": "WORD = 'hello'\n"})
    )


def use(tool: str, **given: Any) -> dict[str, Any]:
    return {"tool": tool, "input": given}


def bash(command: str) -> dict[str, Any]:
    return use("bash", command=command)


DONE = {"id": "done", "say": "Done."}


async def test_a_ticket_is_worked_on_until_the_evidence_is_met(stage: Stage) -> None:
    stage.record(
        {
            "say": "I look.",
            "use": [use("read", file_path="app.py"), use("grep", pattern=r"hel+o\b")],
            "next": [{"contains": "lib/words.py:1:WORD", "go": "edit"}, {"go": "lost"}],
        },
        {
            "id": "edit",
            "use": [
                use("edit", file_path="app.py", old_string="'hello'", new_string="'hello all'"),
                bash("python3 -c 'import app; print(app.greet())'"),
            ],
            "next": [{"contains": "hello all", "go": "hand-in"}, {"go": "lost"}],
        },
        {"id": "hand-in", "say": "Changed.", "next": [{"contains": "no currency", "go": "mend"}, {"go": "lost"}]},
        {"id": "mend", "use": [use("write", file_path="new/money.py", content="CURRENCY = 'EUR'\n")]},
        {"id": "mended", "say": "Mended."},
        {"id": "lost", "say": "Lost."},
    )
    async with stage.rehearsing(), stage.agent() as agent:
        assert await agent.generate(stage.work(), OPENING, 1) == Generated("done", "Changed.")
        assert await agent.generate(stage.work(), "payments said: no currency", 2) == Generated("done", "Mended.")
    assert "hello all" in (stage.root / "app.py").read_text()
    assert (stage.root / "new" / "money.py").read_text() == "CURRENCY = 'EUR'\n"
    doings = [doing for doing in stage.notes.doings() if doing != "thinking"]
    assert doings[:3] == ["read app.py", r"grep hel+o\b", "edit app.py"]
    calls = [data for kind, _, data in stage.notes.events if kind == "model.call"]
    assert len(calls) == len(stage.meter.calls) == 5
    assert all(call["cost_usd"] > 0 and call["priced"] for call in calls)
    assert str(stage.root) not in stage.transcript.read_text()


async def test_each_call_reads_all_that_the_one_before_it_wrote(stage: Stage) -> None:
    turns = [{"use": [bash(f"echo {number}"), use("read", file_path="app.py")]} for number in range(4)]
    stage.record(*turns, {"id": "in", "say": "Handed in."}, {"use": [bash("true")]}, DONE)
    async with stage.rehearsing():
        for iteration, message in enumerate((OPENING, "evidence"), 1):
            # A new agent each time: the prefix must survive a restart too.
            async with stage.agent() as agent:
                await agent.generate(stage.work(), message, iteration)
    calls = [call for _, call in stage.meter.calls]
    assert len(calls) == 7
    for before, after in pairwise(calls):
        assert after.cache_read_tokens == before.cache_read_tokens + before.cache_write_tokens
        assert after.input_tokens == 0


async def test_tools_and_system_prompt_are_shared_by_all_tickets(stage: Stage) -> None:
    stage.record(DONE, ticket="one")
    stage.record(DONE, ticket="two")
    async with stage.rehearsing(), stage.agent() as agent:
        await agent.generate(stage.work("one"), OPENING, 1)
        await agent.generate(stage.work("two"), "Ticket two: Something else", 1)
    assert stage.meter.calls[1][1].cache_read_tokens > 500


async def test_what_a_model_does_wrong_is_answered_and_not_raised(stage: Stage) -> None:
    ended = await stage.play(
        {
            "use": [
                use("read"),
                use("read", file_path="absent.py"),
                use("read", file_path="../../../etc/passwd"),
                use("read", file_path="app.py", view_range=[1]),
                use("edit", file_path="app.py", old_string="absent", new_string="x"),
                use("grep", pattern="("),
                use("grep", pattern="x", path="/etc"),
                use("bash"),
                use("bash", command="true", timeout_ms="soon"),
                use("bash", command="true", shell="zsh"),
                use("nonsense", a=1),
                use("ask_human", reason=""),
                use("sandbox_request", method="GET", path="no-slash"),
                use("glob", pattern="../*"),
            ]
        },
        DONE,
    )
    assert ended.end == "done"
    assert all(is_error for _, is_error in stage.results())
    said = [text for text, _ in stage.results()]
    assert "file_path" in said[0]
    assert "outside" in said[2]
    assert "command: Field required" in said[7]
    assert "there is no tool 'nonsense'; tools: bash, read" in said[10]


@pytest.mark.parametrize("path", [".git/config", "lib/.git/hooks/pre-commit", ".GIT/config", "link/config"])
async def test_nothing_is_written_into_git(stage: Stage, path: str) -> None:
    (stage.root / "link").symlink_to(".git")
    before = (stage.root / ".git" / "config").read_text()
    await stage.play(
        {
            "use": [
                use("write", file_path=path, content="x"),
                use("edit", file_path=path, old_string="a", new_string="b"),
            ]
        },
        DONE,
    )
    assert stage.results() == [
        (f"write: {path}: .git is not yours to change", True),
        (f"edit: {path}: .git is not yours to change", True),
    ]
    assert (stage.root / ".git" / "config").read_text() == before


async def test_calls_that_write_run_in_order_and_results_come_in_order(stage: Stage) -> None:
    await stage.play(
        {
            "use": [
                use("write", file_path="order", content="1"),
                bash("sleep 0.2; printf 2 >> order"),
                bash("printf 3 >> order"),
                use("read", file_path="order"),
                use("glob", pattern="ord*"),
            ]
        },
        DONE,
    )
    assert [text for text, _ in stage.results()] == [
        "wrote 1 bytes to order",
        "(no output)",
        "(no output)",
        "123",
        "order",
    ]


async def test_how_commands_end_is_said(stage: Stage) -> None:
    await stage.play(
        {"use": [bash("echo no; exit 3"), use("bash", command="echo begun; sleep 60", timeout_ms=6000)]},
        {"use": [bash("printf '\\033[31mred\\033[0m\\n'; env")]},
        DONE,
    )
    (failed, slow, coloured), _ = zip(*stage.results(), strict=True)
    assert failed == "no\n\n[exit status 3]"
    assert re.fullmatch(r"begun\n\n\[killed: no end within \d+ s\]", slow)
    assert coloured.startswith("red\n")
    assert "ANTHROPIC" not in coloured


async def test_an_expression_without_end_holds_nobody(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.agents.anthropic.files._GREP_TIMEOUT_S", 0.5)
    (stage.root / "trap.txt").write_text("a" * 1000 + "b\n")
    await stage.play({"use": [use("grep", pattern="(a+)+$", path="trap.txt")]}, DONE)
    ((text, is_error),) = stage.results()
    assert is_error
    assert "use a simpler expression" in text


async def test_the_search_leaves_out_what_git_ignores(stage: Stage) -> None:
    (stage.root / ".gitignore").write_text("build/\n")
    (stage.root / "build").mkdir()
    (stage.root / "build" / "out.py").write_text("hello\n")
    (stage.root / "fresh.py").write_text("hello\n")
    await stage.play({"use": [use("grep", pattern="hello"), use("grep", pattern="absent")]}, DONE)
    hits, nothing = (text for text, _ in stage.results())
    assert {line.partition(":")[0] for line in hits.splitlines()} == {"app.py", "fresh.py", "lib/words.py"}
    assert nothing == "no matches"


async def test_diagnostics_are_the_projects_own(stage: Stage) -> None:
    await stage.play({"use": [use("diagnostics")]}, DONE)
    assert stage.results() == [("checked repo: 2 problems", False)]


async def test_before_the_first_fork_the_sandbox_tools_say_so(stage: Stage) -> None:
    await stage.play(
        {
            "use": [
                use("sandbox_request", method="GET", path="/hello"),
                use("sandbox_logs", service="greeter"),
                use("sandbox_exchanges"),
            ]
        },
        DONE,
    )
    assert all(is_error and "does not run yet" in text for text, is_error in stage.results())


async def test_the_running_system_is_shown_without_a_key(stage: Stage) -> None:
    async def hello(request: Request) -> JSONResponse:
        sent = json.loads(await request.body() or b"null")
        return JSONResponse({"query": request.url.query, "sent": sent, "api_key": "sk-live"}, 400, {"x-api-key": "k"})

    async with served(Router([Route("/hello", hello, methods=["GET", "POST"])])) as url:
        stage.driver = StandIn(url)
        await stage.play(
            {
                "use": [
                    use("sandbox_request", method="POST", path="/hello?a=1", json={"n": 1}),
                    use("sandbox_request", method="GET", path="/hello", service="absent"),
                    use("sandbox_logs", service="greeter"),
                    use("sandbox_logs", service="users"),
                    use("sandbox_exchanges"),
                ]
            },
            DONE,
        )
    (answered, unknown, fork_log, baseline_log, exchanges), _ = zip(*stage.results(), strict=True)
    assert answered.startswith("HTTP 400\n")
    assert '"query":"a=1","sent":{"n":1}' in answered
    assert "client → greeter  GET /hello  400  fork g1  key 0123…" in answered
    assert "sk-live" not in answered
    assert unknown == "there is no service 'absent'; services: greeter, users"
    assert fork_log == "greeter (your fork):\ngreeter of s says password=[redacted]"
    assert baseline_log.startswith("users (the baseline):\nusers of the baseline")
    assert exchanges == 'greeter → users  GET /users/1  400\n  response: {"error": "no currency"}'
    assert KEY not in stage.transcript.read_text()


async def test_a_question_ends_the_work(stage: Stage) -> None:
    ended = await stage.play({"say": "Hm.", "use": [use("ask_human", reason="Which\ncurrency?")]}, DONE)
    assert ended == Generated("needs_human", "Which currency?")
    async with stage.rehearsing(), stage.agent() as agent:
        # Killed before the loop noted it: it is not asked a second time.
        assert await agent.generate(stage.work(), OPENING, 1) == ended
    assert len(stage.meter.calls) == 1


@pytest.mark.parametrize(("stop", "end"), [("refusal", "needs_human"), ("pause_turn", "done"), ("max_tokens", "done")])
async def test_rare_ends_of_a_message(stage: Stage, stop: str, end: str) -> None:
    ended = await stage.play({"say": "I begin", "stop": stop}, DONE)
    assert ended.end == end
    assert len(stage.meter.calls) == (1 if end == "needs_human" else 2)


async def test_a_call_that_was_cut_is_not_made(stage: Stage) -> None:
    await stage.play(
        {
            "use": [use("read", file_path="app.py"), use("write", file_path="half.py", content="def")],
            "stop": "max_tokens",
        },
        DONE,
    )
    (_, first_failed), (cut, second_failed) = stage.results()
    assert (first_failed, second_failed) == (False, True)
    assert "cut at the limit of 1000 output tokens" in cut
    assert not (stage.root / "half.py").exists()


async def test_at_the_limit_of_calls_it_hands_in_what_there_is(stage: Stage) -> None:
    stage.settings = AgentSettings(kind="rehearsal", turns=5)
    ended = await stage.play(*({"use": [bash(f"echo {number}")]} for number in range(9)))
    assert ended == Generated("done", "handed in what there was after 5 model calls")
    assert len(stage.meter.calls) == 5
    (nudge,) = stage.nudges()
    assert nudge.startswith("You have 3 model calls left in this turn.")


async def test_going_in_a_circle_is_told_and_then_ended(stage: Stage) -> None:
    ended = await stage.play({"id": "again", "use": [bash("cat app.py")], "next": [{"go": "again"}]})
    assert ended == Generated("stuck", "the same tool call 8 times in a row, with the same result")
    assert len(stage.meter.calls) == 8
    assert len(stage.nudges()) == 1


async def test_calls_that_take_turns_are_a_circle_too(stage: Stage) -> None:
    turns = [{"use": [bash(f"echo {number % 3}")]} for number in range(30)]
    ended = await stage.play({"use": [bash("echo 0; echo 1")]}, *turns)
    assert ended == Generated("stuck", "one of the same 3 tool calls 8 times in a row, with the same result")
    assert len(stage.meter.calls) == 1 + 3 + 7
    (nudge,) = stage.nudges()
    assert nudge.startswith("Your last 4 calls were ones of the same 3, in turn")


async def test_what_differs_in_a_word_is_no_circle(stage: Stage) -> None:
    turns = [{"use": [bash(f"echo {number if number % 7 == 6 else number % 3}")]} for number in range(14)]
    ended = await stage.play(*turns, DONE)
    assert ended.end == "done"
    assert len(stage.meter.calls) == 15


def limited(*, before_call: Callable[[str], None] = lambda ticket: None, **caps: float) -> ModelLimits:
    return ModelLimits(Budget(run=Caps(), ticket=Caps(**caps)), model_calls=4, before_call=before_call)


async def test_a_budget_ends_it_before_the_next_call_and_is_said_once_before(stage: Stage) -> None:
    stage.record(*({"use": [bash(f"echo {number}")]} for number in range(19)))
    async with stage.rehearsing(), stage.agent(limited(calls=10)) as agent:
        ended = await agent.generate(stage.work(), OPENING, 1)
    assert ended == Generated("out_of_budget", "the ticket's 10 model calls are spent")
    (nudge,) = stage.nudges()
    assert nudge.startswith("The budget of this ticket is nearly used up (8 of 10 model calls).")
    assert stage.calls_before(nudge) == 7


async def test_a_budget_that_was_said_to_end_is_not_said_again(stage: Stage) -> None:
    stage.record(*({"use": [bash(f"echo {number}")], "say": f"{number}"} for number in range(3)), DONE)
    meter = limited(calls=5)
    async with stage.rehearsing(), stage.agent(meter) as agent:
        assert (await agent.generate(stage.work(), OPENING, 1)).end == "done"
        async with stage.agent(meter) as another:
            assert (await another.generate(stage.work(), "still red", 2)).end == "done"
    assert len(stage.nudges()) == 1


async def test_an_answer_that_broke_off_is_in_the_journal(stage: Stage) -> None:
    stage.record(DONE)
    async with stage.rehearsing(), stage.agent() as agent, httpx.AsyncClient() as http:
        await http.post(f"{stage.base_url}/_faults", json={"next": [{"cut": True}]})
        await agent.generate(stage.work(), OPENING, 1)
    calls = [data for kind, _, data in stage.notes.events if kind == "model.call"]
    assert [call["stop_reason"] for call in calls] == ["broken", "end_turn"]
    assert all(call["cost_usd"] > 0 for call in calls)


class Paused(Exception):
    """A signal of the owner's."""


@pytest.mark.parametrize("anew", [False, True])
async def test_stopped_before_any_call_it_goes_on_with_the_same_conversation(stage: Stage, anew: bool) -> None:
    stage.settings = AgentSettings(kind="rehearsal", turns=5)
    stage.record(
        *({"use": [bash(f"echo {number}")]} for number in range(3)),
        {"say": "Handed in."},
        {"use": [use("read", file_path="app.py")]},
        DONE,
    )
    odd = True

    def pause_every_time(ticket: str) -> None:
        nonlocal odd
        odd = not odd
        if not odd:
            raise Paused

    async def until_ended(agent: Agent, message: str, iteration: int) -> Generated:
        while True:
            try:
                if not anew:
                    return await agent.generate(stage.work(), message, iteration)
                async with stage.agent(meter) as another:
                    return await another.generate(stage.work(), message, iteration)
            except Paused:
                assert meter.in_flight == 0

    meter = limited(before_call=pause_every_time)
    async with stage.rehearsing(), stage.agent(meter) as agent:
        ended = [await until_ended(agent, OPENING, 1), await until_ended(agent, "still red", 2)]
    assert ended == [Generated("done", "Handed in."), Generated("done", "Done.")]
    assert stage.said_by("loop") == [OPENING, "still red"]
    assert len(stage.said_by("agent")) == 6
    assert [text for text, _ in stage.results()][:3] == ["0\n", "1\n", "2\n"]
    assert [nudge[:29] for nudge in stage.nudges()] == ["You have 3 model calls left i"]


async def test_a_model_that_refuses_for_good_is_the_environments_fault(stage: Stage) -> None:
    stage.record(DONE, ticket="other")
    async with stage.rehearsing(), stage.agent() as agent:
        with pytest.raises(ModelError, match=r"no recording for ticket 'one' in .*recordings"):
            await agent.generate(stage.work(), OPENING, 1)
    assert [text_of(entry.message) for entry in read(stage.transcript)] == [OPENING], "no word of it to the model"


async def test_killed_in_a_tool_call_it_goes_on_where_it_was(stage: Stage) -> None:
    stage.record({"use": [bash("touch begun; [ -e second ] || sleep 600; touch ended")]}, DONE)
    async with stage.rehearsing():
        async with stage.agent() as agent:
            going = asyncio.create_task(agent.generate(stage.work(), OPENING, 1))
            while not (stage.root / "begun").exists():  # noqa: ASYNC110 - ends by the test's own time limit
                await asyncio.sleep(0.01)
            going.cancel()
            with pytest.raises(asyncio.CancelledError):
                await going
        (stage.root / "second").touch()
        async with stage.agent() as agent:
            assert (await agent.generate(stage.work(), OPENING, 1)).end == "done"
    assert (stage.root / "ended").exists()
    assert stage.transcript.read_text().count("Greet in the plural") == 1


@pytest.mark.parametrize("anew", [False, True])
async def test_killed_at_any_line_it_ends_the_same(stage: Stage, anew: bool) -> None:
    looks = {"use": [use("read", file_path="app.py"), use("sandbox_exchanges")]}
    stage.record(looks, looks, {"say": "Handed in."}, looks, {"say": "Mended."})
    said = {1: OPENING, 2: "still red"}
    folder = stage.folder / "transcripts"
    async with stage.rehearsing(), stage.agent() as agent:
        for iteration, message in said.items():
            await agent.generate(stage.work(), message, iteration)
        whole = stage.transcript.read_bytes()
        ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
        assert len(ends) == 11
        for cut in (0, *ends, *(end - 7 for end in ends)):
            stage.transcript.write_bytes(whole[:cut])
            begun = len(stage.said_by("loop")) if cut else 0
            # The loop calls again with what it had begun, or with the next.
            for iteration in sorted({begun or 1, 2}):
                if anew:
                    async with stage.agent() as another:
                        ended = await another.generate(stage.work(), said[iteration], iteration)
                else:
                    ended = await agent.generate(stage.work(), said[iteration], iteration)
                assert ended == Generated("done", {1: "Handed in.", 2: "Mended."}[iteration])
            assert stage.said_by("loop") == [OPENING, "still red"]
            assert flaw(Transcript.open(folder, "run", "one").messages()) is None


async def test_the_same_evidence_twice_is_said_twice(stage: Stage) -> None:
    stage.record({"id": "again", "say": "I hand in.", "next": [{"go": "again"}]})
    async with stage.rehearsing(), stage.agent() as agent:
        for iteration, message in enumerate((OPENING, "still red", "still red"), 1):
            await agent.generate(stage.work(), message, iteration)
    assert stage.said_by("loop") == [OPENING, "still red", "still red"]


async def test_a_hundred_agents_at_once(stage: Stage) -> None:
    stage.record(
        {"use": [use("read", file_path="app.py")], "next": [{"contains": "hello", "go": "done"}, {"go": "lost"}]},
        {"id": "lost", "say": "Lost."},
        DONE,
    )
    copies = [f"one.{nth:03d}" for nth in range(100)]
    async with stage.rehearsing(*copies), stage.agent() as agent:
        faults = [{"status": 529}, {"status": 429, "retry_after": 0.1}, {"cut": True}]
        async with httpx.AsyncClient() as http:
            await http.post(f"{stage.base_url}/_faults", json={"next": faults * 3})
        ended = await asyncio.gather(*(agent.generate(stage.work(copy), f"Ticket {copy}: x", 1) for copy in copies))
    assert ended == [Generated("done", "Done.")] * 100


@asynccontextmanager
async def served(app: Router) -> AsyncIterator[str]:
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none", log_level="critical")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
