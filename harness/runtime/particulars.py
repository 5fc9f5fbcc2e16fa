"""One ticket, for the screen: out of the store, the transcript, git, and the sandbox while it lives. Only what the page
needs is read: a look at a busy machine must not cost the run anything.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from graphs.ports import attempt_name
from harness.project import Project
from harness.runtime.links import commit_of, living
from tasks.errors import SpurlineError
from tasks.events import Event
from tasks.text import capped
from tui.feed import Detail, Living, Said, Verdict

if TYPE_CHECKING:
    from harness.agents.transcript import Entry
    from harness.store.database import Database
    from harness.store.tables import AgentRow

_SAID: Final = 300
"""Pieces of a conversation."""
_PIECE: Final = 4_000
_DIFF: Final = 200_000
_LOG_LINES: Final = 500


async def particulars(project: Project, database: Database, run: str, ticket: str, page: str) -> Detail:
    """What a page shows of the ticket. UsageError where the run has no such ticket, StoreError."""
    from harness.store.runs import Runs

    runs = Runs(database)
    row, agent = await runs.find(run), await runs.agent(run, ticket)
    detail = Detail(ticket, _facts(agent), await runs.events(run, ticket))
    found = await _page(project, database, row.base, agent, detail, page)
    return replace(found, missing=_told_where(agent, page, found))


def _told_where(agent: AgentRow, page: str, found: Detail) -> Mapping[str, str]:
    """What cannot be read of the page; what is not here for being on another machine is said to be there."""
    from harness.store.workers import elsewhere

    here = {"conversation": found.said, "change": found.diff, "record": found.record}.get(page, True)
    if here or not elsewhere(agent.machine):
        return found.missing
    return {page: f"it is on {agent.machine}, which worked on the ticket"}


async def _page(project: Project, database: Database, base: str, agent: AgentRow, detail: Detail, page: str) -> Detail:
    run, ticket = agent.run, agent.ticket
    try:
        match page:
            case "conversation":
                name = attempt_name(agent.ticket, agent.attempt)
                return replace(detail, said=await asyncio.to_thread(_conversation, project, run, name))
            case "change":
                commit = commit_of(agent, detail.events)
                return replace(detail, diff=await _difference(project, base, commit))
            case "proof" | "hops":
                return replace(detail, verdict=await _verdict(database, agent, detail.events))
            case "record":
                from harness.runtime.proofs import record_of

                commit = agent.commit or ""
                return replace(detail, record=await asyncio.to_thread(record_of, project.state, run, ticket, commit))
            case "logs":
                return await _from_sandbox(project, database, detail, agent)
            case _:
                return detail
    except SpurlineError as error:
        return replace(detail, missing={page: error.message})
    except OSError as error:
        return replace(detail, missing={page: error.strerror or str(error)})
    # A document of somebody else's shape: the rest of the page is known all the same.
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return replace(detail, missing={page: f"it is damaged: {error!r}"})


async def _difference(project: Project, base: str, commit: str) -> str:
    from harness.repository import Repository

    if not commit:
        return ""
    repository = await Repository.open(project.root, settled=False)
    return capped(await repository.diff(base, commit), _DIFF)


async def _logs(project: Project, sandbox: Living) -> tuple[tuple[float, str, str], ...]:
    """The last lines of the forks of a sandbox that lives."""
    from harness.runtime.connections import attached

    async with attached(project.root) as driver:
        if driver is None:
            return ()
        found = [
            (line.at, service, line.text)
            for service, _, _ in sandbox.forks
            for line in await driver.logs(service, sandbox=sandbox.name)
        ]
        return tuple(sorted(found)[-_LOG_LINES:])


def _conversation(project: Project, run: str, name: str) -> tuple[Said, ...]:
    from harness.agents.transcript import current, read

    path = current(project.state / "transcripts", run, name)
    if not path.exists():
        return ()
    return tuple(said for entry in read(path) for said in _pieces(entry))[-_SAID:]


def _pieces(entry: Entry) -> list[Said]:
    found = []
    for block in entry.content:
        kind = block.get("type")
        if kind == "text":
            who: Any = entry.origin if entry.origin in ("agent", "user") else "ticket"
            found.append(Said(entry.at, who, capped(str(block.get("text", "")), _PIECE)))
        elif kind == "tool_use":
            found.append(Said(entry.at, "tool", _arguments(block.get("input")), str(block.get("name", ""))))
        elif kind == "tool_result":
            found.append(Said(entry.at, "result", capped(_content(block.get("content")), _PIECE)))
    return found


def _arguments(given: Any) -> str:
    """A tool's arguments, one a line; a single one as it is."""
    if not isinstance(given, Mapping):
        return capped(str(given), _PIECE)
    lines = [f"{name}: {one if isinstance(one, str) else json.dumps(one)}" for name, one in given.items()]
    return capped("\n".join(lines), _PIECE)


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return str(content or "")


def _facts(agent: AgentRow) -> tuple[tuple[str, str], ...]:
    from harness.store.workers import elsewhere

    tokens = agent.input_tokens + agent.cache_read_tokens + agent.cache_write_tokens
    found = [
        ("title", agent.title),
        ("attempt", str(agent.attempt) if agent.attempt > 1 else ""),
        ("branch", agent.branch or ""),
        ("machine", elsewhere(agent.machine)),
        ("commit", agent.commit or ""),
        ("sandbox", agent.sandbox or ""),
        ("submission", agent.submission or ""),
        ("model", f"{agent.model_calls} calls, {tokens:,} tokens in, {agent.output_tokens:,} out"),
        ("cost", f"{agent.cost_usd:.4f} USD"),
        ("faults", str(agent.faults) if agent.faults else ""),
    ]
    return tuple((name, value) for name, value in found if value)


async def _from_sandbox(project: Project, database: Database, detail: Detail, agent: AgentRow) -> Detail:
    """The sandbox and what its forks log; once it is gone, the verdict, whose evidence has what was kept of that."""
    box = await living(project, agent.sandbox)
    if box is None:
        return replace(detail, verdict=await _verdict(database, agent, detail.events))
    return replace(detail, sandbox=box, logs=await _logs(project, box))


async def _verdict(database: Database, agent: AgentRow, events: Sequence[Event]) -> Verdict | None:
    """The last one of the ticket."""
    from harness.runtime.proofs import verdict_of
    from harness.store.documents import Verdicts

    name = agent.verdict or _last(events, "verdict", "verdict")
    return verdict_of(name, await Verdicts(database).load(name)) if name else None


def _last(events: Sequence[Event], kind: str, name: str) -> str:
    """What the last event of this kind names; empty where there is none."""
    return next((str(event.data.get(name) or "") for event in reversed(events) if event.kind == kind), "")
