"""`spurline worker`: share the work on a run."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from harness.cli.app import single
from harness.cli.interrupts import complete
from harness.cli.options import Json, place_of
from harness.cli.output import Output
from harness.project import Project

app = single()


@app.command("worker")
def worker(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or `last`.")] = "last",
    agents: Annotated[int | None, typer.Option("--agents", min=1, help="Agents at once, instead of limits.")] = None,
    json: Json = False,
) -> None:
    """Work on a run together with the process that began it, and with other workers, until all tickets have ended.

    Each ticket is worked by one of them at a time. What a worker leaves that died, the others take up. Exit codes are
    those of `run`.
    """
    drain = asyncio.Event()
    raise typer.Exit(complete(_work(place_of(ctx).workshop(), run, agents, Output(json=json), drain), drain))


async def _work(project: Project, run: str, agents: int | None, out: Output, drain: asyncio.Event) -> int:
    from harness.cli.run import watched
    from harness.runtime import join_run

    return await watched(lambda console: join_run(project, run, console, agents=agents), project, out, drain)
