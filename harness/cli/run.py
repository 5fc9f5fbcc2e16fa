"""`spurline run`: work the backlog until every ticket ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import completion
from harness.cli.app import single
from harness.cli.interrupts import complete
from harness.cli.options import Json, place_of
from harness.cli.output import Output
from harness.cli.place import prepare_folder
from harness.project import Project

if TYPE_CHECKING:
    from harness.runtime import Console, RunOptions, RunResult

app = single()


@app.command("run")
def run(
    ctx: typer.Context,
    ticket: Annotated[
        list[str] | None,
        typer.Option("--ticket", "-t", metavar="ID", autocompletion=completion.tickets, help="Only this one; repeat."),
    ] = None,
    agents: Annotated[int | None, typer.Option("--agents", min=1, help="Agents at once, instead of limits.")] = None,
    copies: Annotated[
        int | None, typer.Option("--tickets", min=1, metavar="N", help="Multiply the backlog to N tickets.")
    ] = None,
    rev: Annotated[str, typer.Option("--rev", metavar="REV", help="The base commit.")] = "HEAD",
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="DIR", help="Write what the agents did as recordings, for a rehearsal."),
    ] = None,
    tui: Annotated[
        bool,
        typer.Option("--tui", help="Show the screen meanwhile, in a process of its own, where there is a terminal."),
    ] = False,
    json: Json = False,
) -> None:
    """Work the backlog in the closed loop: each ticket ends verified with proof, or honestly not.

    The baseline is started if it is not up, and stopped again. Exit codes: 0 all verified, 1 some not, 2 usage or
    configuration, 3 the environment failed, 130 interrupted. Interrupted or killed at any moment, `spurline runs
    resume` goes on; SIGTERM lets what is at work come to its next step first.
    """
    from harness.runtime import RunOptions

    project = place_of(ctx).workshop()
    if record is not None:
        prepare_folder(record)
    options = RunOptions(tickets=tuple(ticket or ()), agents=agents, copies=copies, rev=rev, record=record)
    drain = asyncio.Event()
    raise typer.Exit(complete(work(project, options, Output(json=json), drain, tui=tui), drain))


async def work(project: Project, options: RunOptions, out: Output, drain: asyncio.Event, *, tui: bool = False) -> int:
    """Run the backlog with live progress; the exit code."""
    from harness.runtime import run_backlog

    return await watched(lambda console: run_backlog(project, options, console), project, out, drain, tui=tui)


async def watched(
    working: Callable[[Console], Awaitable[RunResult]],
    project: Project,
    out: Output,
    drain: asyncio.Event,
    *,
    tui: bool = False,
) -> int:
    """Show live progress of what works on a run, or (`tui`) the screen, then how it ended; the exit code."""
    from harness.cli.beside import Beside
    from harness.cli.progress import Progress
    from harness.runtime import INTERRUPTED, Console

    with Progress(out) as progress:
        screen = Beside(out, project.root, progress, wanted=tui)

        def listen(event: Any) -> None:
            progress.feed(event)
            screen.heed(event)
            if out.json:
                out.object(event.to_json())

        try:
            result = await working(Console(listen, screen.narrate, drain))
            if result.exit_code != INTERRUPTED:
                await screen.left(drain)
        finally:
            await screen.end()
    _show(result, out)
    return result.exit_code


def _show(result: RunResult, out: Output) -> None:
    from harness.cli.progress import summary_table
    from harness.runtime import INTERRUPTED

    if out.json:
        out.object(result.to_json())
        return
    summary_table(result.agents, out)
    counts = ", ".join(f"{count} {state}" for state, count in result.tickets.items() if count)
    out.line(f"\n{counts} · {result.seconds:.1f} s · {result.cost_usd:.2f} USD · run {result.run}")
    if result.exit_code == INTERRUPTED:
        out.note(f"interrupted; `spurline runs resume {result.run}` goes on where it stands")
    else:
        out.note(f"`spurline runs show {result.run}` shows the proof of each ticket")
