"""`spurline runs`: what was run, how each ticket ended, and why."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import noun
from harness.cli.interrupts import complete
from harness.cli.options import Json, RunId, Tickets, place_of
from harness.cli.output import Output, state_cell
from harness.cli.report import Format, format_of, write_report
from harness.cli.steering import answer, keep, limit, note, retry
from harness.cli.verdicts import show_verdict
from harness.project import Project
from tasks.errors import UsageError
from tasks.states import is_final

if TYPE_CHECKING:
    from harness.store.tables import AgentRow, NoteRow, RunRow

app = noun("List runs, show or report one, and steer those that go on.")


@app.command("list")
def list_runs(ctx: typer.Context, json: Json = False) -> None:
    """Show all runs, the newest first."""
    complete(_list(place_of(ctx).project(), Output(json=json)))


@app.command("show")
def show(
    ctx: typer.Context,
    run: RunId = "last",
    ticket: Annotated[
        str | None, typer.Option("--ticket", "-t", metavar="ID", help="Everything of one ticket.")
    ] = None,
    json: Json = False,
) -> None:
    """Show how each ticket of a run ended; with --ticket, its verdict and the evidence."""
    project, out = place_of(ctx).project(), Output(json=json)
    complete(_show_ticket(project, run, ticket, out) if ticket else _show(project, run, out))


@app.command("report")
def report(
    ctx: typer.Context,
    run: RunId = "last",
    format: Annotated[
        Format | None, typer.Option("--format", help="How it is written; else as the file's name ends, or text.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there, not on stdout.")
    ] = None,
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The same as --format markdown.")] = False,
) -> None:
    """Report a run: how each ticket ended and why, time, tokens, money, what limited it, and what changed.

    Also of a run that still goes on, or was interrupted. The HTML is one file that needs no network and no script.
    """
    chosen = format_of(format, output, json=json, markdown=markdown)
    complete(write_report(place_of(ctx).project(), run, chosen, output, Output(json=json)))


@app.command("resume")
def resume(
    ctx: typer.Context,
    run: RunId = "last",
    ticket: Tickets = None,
    agents: Annotated[int | None, typer.Option("--agents", min=1, help="Agents at once, instead of limits.")] = None,
    accept_changes: Annotated[
        bool,
        typer.Option("--accept-changes", help="Take over `agent`, `limits` and `submit` of a changed spurline.yaml."),
    ] = False,
    json: Json = False,
) -> None:
    """Go on with a run that was interrupted, killed or paused, from where each of its tickets stands.

    Where a process works on the run, it goes on; else this one takes it up. Exit codes are those of `run`.
    """
    project, out, drain = place_of(ctx).workshop(), Output(json=json), asyncio.Event()
    going_on = _resume(project, run, tuple(ticket or ()), agents, accept_changes, out, drain)
    raise typer.Exit(complete(going_on, drain))


@app.command("pause")
def pause(ctx: typer.Context, run: RunId = "last", ticket: Tickets = None, json: Json = False) -> None:
    """Let a run, or tickets of it, stop at their next step, from another terminal; `resume` goes on."""
    complete(_wish(place_of(ctx).project(), run, tuple(ticket or ()), "paused", Output(json=json)))


@app.command("cancel")
def cancel(ctx: typer.Context, run: RunId = "last", ticket: Tickets = None, json: Json = False) -> None:
    """End a run, or tickets of it, now and for good; what was committed stays on the branches."""
    complete(_cancel(place_of(ctx).project(), run, tuple(ticket or ()), Output(json=json)))


app.command("retry")(retry)
app.command("note")(note)
app.command("answer")(answer)
app.command("limit")(limit)
app.command("keep")(keep)


async def _resume(
    project: Project,
    name: str,
    tickets: tuple[str, ...],
    agents: int | None,
    accept_changes: bool,
    out: Output,
    drain: asyncio.Event,
) -> int:
    from harness.cli.run import watched
    from harness.runtime import opened_store, resume_run
    from harness.store.claims import Claims
    from harness.store.runs import Runs

    async with opened_store(project) as database:
        runs = Runs(database)
        row = await runs.find(name)
        others = await Claims(database, row.id).others()
        if others and (agents or accept_changes):
            raise UsageError(
                f"run {row.id} is being worked on: it goes on as it was begun",
                hint="`spurline runs limit --agents N` changes how much of it happens at once",
            )
        if others:
            concerned = await runs.wish(row.id, "", tickets)
            _said(out, row.id, "goes on", concerned, others[0].where)
            return 0
    return await watched(
        lambda console: resume_run(
            project, row.id, console, tickets=tickets, agents=agents, accept_changes=accept_changes
        ),
        project,
        out,
        drain,
    )


async def _wish(project: Project, name: str, tickets: tuple[str, ...], wish: str, out: Output) -> None:
    from harness.runtime import opened_store
    from harness.store.claims import Claims
    from harness.store.runs import Runs

    async with opened_store(project) as database:
        runs = Runs(database)
        row = await runs.find(name)
        concerned = await runs.wish(row.id, wish, tickets)
        others = await Claims(database, row.id).others()
    _said(out, row.id, wish, concerned, others[0].where if others else None)


async def _cancel(project: Project, name: str, tickets: tuple[str, ...], out: Output) -> None:
    from harness.runtime import abandon_run, opened_store
    from harness.store.runs import Runs

    run, concerned, where = await abandon_run(project, name, tickets)
    _said(out, run, "cancelled", concerned, where)
    if where is not None or out.json:
        return
    async with opened_store(project) as database:
        handed = sum(agent.state == "submitting" for agent in await Runs(database).agents(run))
    if handed:
        out.note(f"{handed} were being handed over: `spurline runs resume {run}` finishes that")


def _said(out: Output, run: str, what: str, concerned: int, where: str | None) -> None:
    if out.json:
        out.object({"run": run, "wish": what, "tickets": concerned, "worked_on": where is not None})
        return
    out.line(f"run {run}: {what}, {concerned} tickets")
    if where is None:
        out.note("nobody works on the run at the moment")
    else:
        out.note(f"{where} hears of it within a second")


async def _list(project: Project, out: Output) -> None:
    from harness.runtime import opened_store
    from harness.store.claims import as_it_is
    from harness.store.runs import Runs, tally

    async with opened_store(project) as database:
        runs = Runs(database)
        found = [(await as_it_is(database, row), tally(await runs.agents(row.id))) for row in await runs.list()]
    if out.json:
        for row, counts in found:
            out.object({**_run_json(row), "tickets": counts})
        return
    rows = [
        [row.id, row.state, _when(row.started_at), str(row.tickets), str(counts["verified"]), row.base[:12]]
        for row, counts in found
    ]
    out.table(["run", "state", "began", "tickets", "verified", "base"], rows, empty="there are no runs yet")


async def _show(project: Project, name: str, out: Output) -> None:
    row, agents = await _load(project, name)
    if out.json:
        from harness.store.attempts import agent_json

        out.object({**_run_json(row), "agents": [agent_json(agent) for agent in agents]})
        return
    from harness.cli.progress import summary_table

    out.fields([("run", row.id), ("state", row.state), ("began", _when(row.started_at)), ("base", row.base)])
    out.line()
    summary_table(agents, out)


async def _show_ticket(project: Project, name: str, ticket: str, out: Output) -> None:
    from harness.runtime import opened_store
    from harness.store.attempts import agent_json
    from harness.store.documents import Verdicts
    from harness.store.notes import Notes
    from harness.store.runs import Runs

    async with opened_store(project) as database:
        row = await Runs(database).find(name)
        agent = await Runs(database).agent(row.id, ticket)
        verdict = await Verdicts(database).load(agent.verdict) if agent.verdict else None
        events = await Runs(database).events(row.id, ticket)
        notes = await Notes(database).of(row.id, ticket)
    if out.json:
        said = [one.model_dump(include={"id", "attempt", "at", "text", "told_at"}) for one in notes]
        document = {**agent_json(agent), "document": verdict, "notes": said}
        out.object({**document, "events": [event.to_json() for event in events]})
        return
    out.fields(
        [
            ("ticket", f"{agent.ticket}: {agent.title}"),
            ("state", state_cell(agent.state)),
            ("reason", agent.reason),
            ("iterations", str(agent.iterations)),
            ("branch", agent.branch or ""),
            ("machine", _elsewhere(agent)),
            ("commit", agent.commit or ""),
            ("submission", agent.submission or ""),
            ("kept until", _when(agent.keep_until) if agent.keep_until else ""),
            ("cost", f"{agent.cost_usd:.4f} USD in {agent.model_calls} model calls"),
        ]
    )
    for one in notes:
        out.line()
        out.line(f"note of {_when(one.at)}, {_told(one, agent)}")
        out.line(one.text)
    if verdict is not None:
        show_verdict(verdict, out)


def _elsewhere(agent: AgentRow) -> str:
    """The machine that worked on the ticket, where it is another one than this."""
    from harness.store.workers import elsewhere

    name = elsewhere(agent.machine)
    return f"{name}, whose repository has the branch" if name and agent.commit else name


def _told(note: NoteRow, agent: AgentRow) -> str:
    if note.told_at is not None:
        return f"told {_when(note.told_at)}"
    return "never told" if is_final(agent.state) else "not told yet"


async def _load(project: Project, name: str) -> tuple[RunRow, tuple[AgentRow, ...]]:
    from harness.runtime import opened_store
    from harness.store.claims import as_it_is
    from harness.store.runs import Runs

    async with opened_store(project) as database:
        row = await as_it_is(database, await Runs(database).find(name))
        return row, await Runs(database).agents(row.id)


def _run_json(row: RunRow) -> dict[str, Any]:
    return {
        "run": row.id,
        "project": row.project,
        "state": row.state,
        "base": row.base,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "spurline": row.spurline,
    }


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
