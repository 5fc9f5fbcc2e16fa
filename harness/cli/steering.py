"""The commands of `spurline runs` by which a person acts on the agents of a run, from any terminal."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harness.cli.interrupts import complete
from harness.cli.options import Json, RunId, Tickets, duration, place_of
from harness.cli.output import Output
from harness.project import Project
from tasks.errors import UsageError
from tasks.text import span

_Ticket = Annotated[list[str], typer.Option("--ticket", "-t", metavar="ID", help="The ticket meant; repeat.")]
_Text = Annotated[list[str], typer.Argument(metavar="TEXT…", help="What is said; `-` reads it from stdin.")]


def retry(
    ctx: typer.Context,
    run: RunId = "last",
    ticket: Tickets = None,
    carry_on: Annotated[
        bool, typer.Option("--carry-on", help="Go on from where each ended: its last commit, its conversation.")
    ] = False,
    note: Annotated[
        str | None, typer.Option("--note", metavar="TEXT", help="What the agents are told at their beginning.")
    ] = None,
    json: Json = False,
) -> None:
    """Queue tickets again that ended without being verified: each begins anew, on a branch of its own.

    With --carry-on each goes on from where it ended, in a further attempt with counters of its own.
    """
    project, tickets = place_of(ctx).project(), tuple(ticket or ())
    complete(_retry(project, run, tickets, Output(json=json), carry_on=carry_on, note=note))


def note(ctx: typer.Context, run: RunId, ticket: _Ticket, text: _Text, json: Json = False) -> None:
    """Tell agents at work something: each hears it once, before its next model call, as a note of the user."""
    complete(_note(place_of(ctx).project(), run, tuple(ticket), _said(text), Output(json=json)))


def answer(ctx: typer.Context, run: RunId, ticket: _Ticket, text: _Text, json: Json = False) -> None:
    """Answer a ticket that asked a human: it carries on with the answer. Everything is judged as ever."""
    complete(_answer(place_of(ctx).project(), run, tuple(ticket), _said(text), Output(json=json)))


def limit(
    ctx: typer.Context,
    run: RunId = "last",
    ticket: Tickets = None,
    agents: Annotated[int | None, typer.Option("--agents", min=1, help="Agents at once.")] = None,
    model_calls: Annotated[int | None, typer.Option("--model-calls", min=1, help="Model calls in flight.")] = None,
    sandboxes: Annotated[int | None, typer.Option("--sandboxes", min=1, help="Sandboxes being created.")] = None,
    deletions: Annotated[int | None, typer.Option("--deletions", min=1, help="Sandboxes being deleted.")] = None,
    forks: Annotated[int | None, typer.Option("--forks", min=1, help="Forks that start.")] = None,
    checks: Annotated[int | None, typer.Option("--checks", min=1, help="Agents whose checks run.")] = None,
    budget_usd: Annotated[float | None, typer.Option("--budget-usd", help="Money of the run.")] = None,
    budget_calls: Annotated[int | None, typer.Option("--budget-calls", help="Model calls of the run.")] = None,
    budget_tokens: Annotated[int | None, typer.Option("--budget-tokens", help="Tokens of the run.")] = None,
    budget_minutes: Annotated[float | None, typer.Option("--budget-minutes", help="Minutes of the run.")] = None,
    ticket_budget_usd: Annotated[float | None, typer.Option("--ticket-budget-usd", help="Money of a ticket.")] = None,
    ticket_calls: Annotated[int | None, typer.Option("--ticket-calls", help="Model calls of a ticket.")] = None,
    ticket_tokens: Annotated[int | None, typer.Option("--ticket-tokens", help="Tokens of a ticket.")] = None,
    ticket_minutes: Annotated[float | None, typer.Option("--ticket-minutes", help="Minutes of a ticket.")] = None,
    ticket_failed_verdicts: Annotated[
        int | None, typer.Option("--ticket-failed-verdicts", help="Failed verdicts of a ticket.")
    ] = None,
    ticket_nudges: Annotated[
        int | None, typer.Option("--ticket-nudges", help="Times that a ticket's agent hands in nothing new.")
    ] = None,
    max_iterations: Annotated[int | None, typer.Option("--max-iterations", help="Iterations of a ticket.")] = None,
    json: Json = False,
) -> None:
    """Change limits and budgets of a run while it goes on; with --ticket, a ticket's own, also of one that has ended.

    They hold from the next call, step or iteration on: what is in flight goes on, and counts.
    """
    said = {name: value for name, value in locals().items() if name not in ("ctx", "run", "ticket", "json")}
    wanted = {name: number for name, number in said.items() if number is not None}
    if not wanted:
        raise UsageError("no limit is given", hint="`spurline runs limit --help` lists them")
    complete(_limit(place_of(ctx).project(), run, tuple(ticket or ()), wanted, Output(json=json)))


def keep(
    ctx: typer.Context,
    run: RunId,
    ticket: _Ticket,
    wanted: Annotated[str, typer.Option("--for", metavar="TIME", help="How long, from now on: 30m, 2h, …")] = "2h",
    json: Json = False,
) -> None:
    """Keep a ticket's sandbox when it ends, however it ends, to look at it; of one that has ended, while it lives."""
    project, for_s = place_of(ctx).project(), duration(wanted, "--for")
    complete(_keep(project, run, tuple(ticket), for_s, Output(json=json)))


def _said(words: list[str]) -> str:
    if words != ["-"]:
        return " ".join(words)
    return sys.stdin.buffer.read().decode(errors="replace")


async def _retry(
    project: Project, name: str, tickets: tuple[str, ...], out: Output, *, carry_on: bool, note: str | None
) -> None:
    from harness.runtime import opened_store
    from harness.store.claims import Claims
    from harness.store.runs import Runs

    async with opened_store(project) as database:
        runs = Runs(database)
        row = await runs.find(name)
        again = await runs.retry(row.id, tickets, carry_on=carry_on, note=note)
        others = await Claims(database, row.id).others()
    _queued(out, row.id, "retried", again, worked_on=bool(others))


async def _answer(project: Project, name: str, tickets: tuple[str, ...], text: str, out: Output) -> None:
    from harness.runtime import opened_store
    from harness.store.claims import Claims
    from harness.store.runs import Runs

    async with opened_store(project) as database:
        runs = Runs(database)
        row = await runs.find(name)
        await runs.answer(row.id, tickets, text)
        others = await Claims(database, row.id).others()
    _queued(out, row.id, "answered", tickets, worked_on=bool(others))


def _queued(out: Output, run: str, what: str, tickets: tuple[str, ...], *, worked_on: bool) -> None:
    if out.json:
        out.object({"run": run, what: list(tickets), "worked_on": worked_on})
        return
    out.line(f"{len(tickets)} tickets of run {run} are queued again")
    if tickets and not worked_on:
        out.note(f"`spurline runs resume {run}` works on them")


async def _note(project: Project, name: str, tickets: tuple[str, ...], text: str, out: Output) -> None:
    from harness.runtime import opened_store
    from harness.store.claims import Claims
    from harness.store.notes import Notes
    from harness.store.runs import Runs

    async with opened_store(project) as database:
        row = await Runs(database).find(name)
        await Notes(database).leave(row.id, tickets, text)
        others = await Claims(database, row.id).others()
    if out.json:
        out.object({"run": row.id, "noted": list(tickets), "worked_on": bool(others)})
        return
    out.line(f"run {row.id}: noted for {', '.join(tickets)}")
    out.note(
        "told before the next model call; `spurline runs show -t` says whether it was"
        if others
        else f"nobody works on the run at the moment: told when `spurline runs resume {row.id}` goes on"
    )


async def _limit(project: Project, name: str, tickets: tuple[str, ...], wanted: dict[str, float], out: Output) -> None:
    from harness.runtime import opened_store
    from harness.store.runs import Runs

    async with opened_store(project) as database:
        runs = Runs(database)
        row = await runs.find(name)
        await runs.limit(row.id, wanted, tickets)
    if out.json:
        out.object({"run": row.id, "limits": wanted, "tickets": list(tickets)})
        return
    whose = f", {', '.join(tickets)}" if tickets else ""
    said = ", ".join(f"{name.replace('_', ' ')} {number:g}" for name, number in wanted.items())
    out.line(f"run {row.id}{whose}: {said}")


async def _keep(project: Project, name: str, tickets: tuple[str, ...], for_s: float, out: Output) -> None:
    from harness.runtime import keep_sandboxes, opened_store
    from harness.store.runs import Runs

    async with opened_store(project) as database:
        row = await Runs(database).find(name)
        kept = await keep_sandboxes(project, database, row.id, tickets, for_s)
    if out.json:
        out.object({"run": row.id, "until": kept.until, "now": list(kept.now), "when_ended": list(kept.later)})
        return
    if kept.now:
        out.line(f"kept for {span(for_s)}: the sandbox of {', '.join(kept.now)}")
    if kept.later:
        out.line(f"to be kept for {span(for_s)} from now on, when it ends: the sandbox of {', '.join(kept.later)}")
