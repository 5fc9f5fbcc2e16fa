"""`spurline tui`: a run on the screen, in a process of its own. It may end at any moment; the run does not notice."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Final

import typer

from harness.cli.app import single
from harness.cli.board import log_line
from harness.cli.documents import clock
from harness.cli.interrupts import complete
from harness.cli.options import RunId, place_of
from harness.cli.output import Output
from tasks.errors import SpurlineError, UsageError
from tasks.text import one_line
from tui.grouping import By, grouped

if TYPE_CHECKING:
    from harness.cli.place import Place
    from tui.feed import Feed, Run
    from tui.filtering import Services
    from tui.fleet import Fleet

app = single()

_PLAIN_PERIOD_S: Final = 1.0
_PATIENCE_S: Final = 2.0
_REASON: Final = 200


@app.command("tui")
def tui(
    ctx: typer.Context,
    run: RunId = "last",
    plain: Annotated[
        bool, typer.Option("--plain", help="Plain lines as things happen: for screen readers and simple terminals.")
    ] = False,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Play the run again, from 14:05:30, +90 (seconds) or a date on."),
    ] = None,
    group: Annotated[
        By | None, typer.Option("--group", help="Begin with the agents in groups; `v` changes that.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="In browsers: prints a URL, and goes on until Ctrl-C.")
    ] = False,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="With --serve: where to listen, if not on loopback.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="With --serve: the port, if not one that is free.")
    ] = None,
) -> None:
    """Show a run, live or finished: every agent at a glance, each of them in full, and what can be done about it.

    It only reads: to end it does nothing to the run. On a terminal that cannot do more, and where stdout is none, it
    is --plain.
    """
    place, out = place_of(ctx), Output()
    if serve:
        if plain:
            raise UsageError("--plain and --serve are two ways to see it", hint="give one of them")
        from harness.cli import serving

        raise typer.Exit(
            complete(serving.serve(place, run, _options(at, group), out, host=host or serving.HOST, port=port or 0))
        )
    if host is not None or port is not None:
        raise UsageError("--host and --port are for --serve", hint="`spurline tui --serve --port 8080`, for one")
    simple = plain or not _drawable(out)
    raise typer.Exit(complete(_show(place, run, at, group, out, simple=simple)))


def _options(at: str | None, by: By | None) -> list[str]:
    """The same for the screen of a browser."""
    return [*(["--at", at] if at is not None else []), *(["--group", by] if by is not None else [])]


def _drawable(out: Output) -> bool:
    """Whether there is something to draw on: a terminal that can do it, or, in a process of --serve, a browser."""
    if os.environ.get("TEXTUAL_DRIVER"):
        return True
    return out.terminal and sys.stdin.isatty() and os.environ.get("TERM", "dumb") != "dumb"


async def _show(place: Place, name: str, at: str | None, by: By | None, out: Output, *, simple: bool) -> int:
    async with AsyncExitStack() as stack:
        if simple:
            await tell(await _opened(place, name, stack), out, at, by)
            return 0
        # Until the screen stands nothing is collected: half of what is imported would be looked through for nothing.
        gc.disable()
        from tui.terminal import run_screen

        if at is None:
            # The screen is there before the store is: that one takes longer to import than anything else.
            return _left(await run_screen(_opened(place, name, stack), by=by))
        from tui.replay import moment_of

        feed = await _opened(place, name, stack)
        moment = moment_of(at, (await feed.snapshot()).run.began)
        return _left(await run_screen(feed, at=moment, by=by))


def _left(code: int) -> int:
    """The screen has left, and holds nothing: a store that does not answer is not waited for to say good-bye."""
    last = threading.Timer(_PATIENCE_S, os._exit, [code])
    last.daemon = True
    last.start()
    return code


async def _opened(place: Place, name: str, stack: AsyncExitStack) -> Feed:
    """The feed of the run, until the stack is unwound. Its parts are imported in a thread, as they are many."""
    project = await asyncio.to_thread(place.project)
    from harness.runtime.feed import opened_feed

    return await stack.enter_async_context(opened_feed(project, name))


async def tell(feed: Feed, out: Output, at: str | None = None, by: By | None = None) -> None:
    """How the run stands (at a moment, where one is given), then a line for each thing that happens, until it ends."""
    from tui.fleet import fleet_of, unbegun
    from tui.replay import Story, moment_of

    snapshot = await feed.snapshot()
    services = await feed.services() if by == "service" else {}
    run, fleet = snapshot.run, fleet_of(snapshot)

    def standing(fleet: Fleet) -> None:
        _standing(run, fleet, out, by, services)

    if at is not None:
        moment = moment_of(at, run.began)
        standing(Story(unbegun(run, snapshot.agents), await feed.story()).at(moment))
        return
    standing(fleet)
    silent = ""
    while run.state == "running":
        await asyncio.sleep(_PLAIN_PERIOD_S)
        try:
            news = await feed.news()
        except SpurlineError as error:
            if error.message != silent:
                silent = error.message
                out.warning(f"not up to date: {error.message}")
            continue
        silent, run, fleet = "", news.run, fleet.after(news.events)
        for event in news.events:
            if (line := log_line(event)) is not None:
                out.line(f"{clock(event.at)}  {line}")
    standing(fleet)


def _standing(run: Run, fleet: Fleet, out: Output, by: By | None, services: Services) -> None:
    """The run in a line, then each agent that has begun in a line, those first that need attention, below a line for
    each group."""
    from tui.fleet import orders
    from tui.head import standing

    now = run.ended or max((agent.heard for agent in fleet.agents.values()), default=run.began)
    out.line(f"run {run.id} is {standing(run)}: {_counts(fleet.totals())}; {fleet.cost_usd:.2f} USD")
    agents = sorted(fleet.agents.values(), key=orders(now)["attention"])
    for group in grouped(agents, by, services, now):
        if group.name:
            out.line(f"{by} {one_line(group.name, _REASON)}: {_counts(group.states())}")
        for agent in group.agents:
            if agent.state != "queued":
                nth = f", iteration {agent.iteration}" if agent.iteration else ""
                said = agent.doing or agent.reason
                out.line(f"{agent.ticket}: {agent.state}{nth}{': ' + said if said else ''}")


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items())
