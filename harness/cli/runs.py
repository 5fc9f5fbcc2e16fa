"""`spurline runs`: what was run, how each ticket ended, and why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import noun
from harness.cli.interrupts import complete
from harness.cli.options import Json, place_of
from harness.cli.output import Output, state_cell
from harness.cli.verdicts import show_verdict
from harness.settings import Project
from tasks.errors import UsageError

if TYPE_CHECKING:
    from harness.store.tables import AgentRow, RunRow

app = noun("List runs, and show or report one.")

RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or `last`.")]


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
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write Markdown.")] = False,
) -> None:
    """Report a run: outcome of each ticket, its proof or its evidence, iterations, tokens and money."""
    complete(_report(place_of(ctx).project(), run, Output(json=json), markdown))


async def _list(project: Project, out: Output) -> None:
    from harness.runtime import opened_store
    from harness.store.runs import Runs, tally

    async with opened_store(project) as database:
        runs = Runs(database)
        found = [(row, tally(await runs.agents(row.id))) for row in await runs.list()]
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
        from harness.store.runs import agent_json

        out.object({**_run_json(row), "agents": [agent_json(agent) for agent in agents]})
        return
    from harness.cli.progress import summary_table

    out.fields([("run", row.id), ("state", row.state), ("began", _when(row.started_at)), ("base", row.base)])
    out.line()
    summary_table(agents, out)


async def _show_ticket(project: Project, name: str, ticket: str, out: Output) -> None:
    from harness.runtime import opened_store
    from harness.store.documents import Verdicts
    from harness.store.runs import Runs, agent_json

    async with opened_store(project) as database:
        row = await Runs(database).find(name)
        agents = {agent.ticket: agent for agent in await Runs(database).agents(row.id)}
        if ticket not in agents:
            raise UsageError(f"run {row.id} has no ticket {ticket!r}", hint=f"`spurline runs show {row.id}` lists them")
        agent = agents[ticket]
        verdict = await Verdicts(database).load(agent.verdict) if agent.verdict else None
        events = await Runs(database).events(row.id, ticket)
    if out.json:
        out.object({**agent_json(agent), "document": verdict, "events": [event.to_json() for event in events]})
        return
    out.fields(
        [
            ("ticket", f"{agent.ticket}: {agent.title}"),
            ("state", state_cell(agent.state)),
            ("reason", agent.reason),
            ("iterations", str(agent.iterations)),
            ("branch", agent.branch or ""),
            ("commit", agent.commit or ""),
            ("submission", agent.submission or ""),
            ("cost", f"{agent.cost_usd:.4f} USD in {agent.model_calls} model calls"),
        ]
    )
    if verdict is not None:
        show_verdict(verdict, out)


async def _report(project: Project, name: str, out: Output, markdown: bool) -> None:
    from harness.store.runs import agent_json, tally

    row, agents = await _load(project, name)
    counts = tally(agents)
    totals = {
        "cost_usd": round(sum(agent.cost_usd for agent in agents), 6),
        "model_calls": sum(agent.model_calls for agent in agents),
        "iterations": sum(agent.iterations for agent in agents),
        "seconds": round((row.ended_at or time.time()) - row.started_at, 3),
    }
    if out.json:
        out.object({**_run_json(row), "tickets": counts, **totals, "agents": [agent_json(agent) for agent in agents]})
        return
    if not markdown:
        await _show(project, name, out)
        out.line()
        out.fields([(name.replace("_", " "), f"{value:g}") for name, value in totals.items()])
        return
    out.line(f"# Run {row.id}\n")
    out.line(f"Base `{row.base}`, {row.state}, {totals['seconds']:g} s, {totals['cost_usd']:g} USD.\n")
    out.line("| ticket | state | iterations | reason | submission |")
    out.line("|---|---|---|---|---|")
    for agent in agents:
        cells = (agent.ticket, agent.state, str(agent.iterations), agent.reason, agent.submission or "")
        out.line("| " + " | ".join(_cell(cell) for cell in cells) + " |")


async def _load(project: Project, name: str) -> tuple[RunRow, tuple[AgentRow, ...]]:
    from harness.runtime import opened_store
    from harness.store.runs import Runs

    async with opened_store(project) as database:
        row = await Runs(database).find(name)
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


def _cell(text: str) -> str:
    """Text in a Markdown table: nothing in it may end the cell or begin markup."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
