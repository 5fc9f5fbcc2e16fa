"""`spurline baseline`: the shared, stable system, from up to down."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.app import noun
from harness.cli.documents import baseline_document
from harness.cli.interrupts import complete
from harness.cli.options import Json, place_of
from harness.cli.output import Cell, Output, Styled
from harness.cli.place import repository_of
from harness.project import Project
from sandbox.driver import Baseline, Driver
from tasks.text import span

app = noun("Start, stop and look at the baseline: the shared, stable version of every service.")


@app.command("up")
def up(
    ctx: typer.Context,
    rev: Annotated[str, typer.Option("--rev", metavar="REV", help="The commit to run.")] = "HEAD",
    json: Json = False,
) -> None:
    """Start every service from a checkout of a commit, and wait until all are ready.

    Runs already with this commit: nothing changes. Ctrl-C leaves nothing behind.
    """
    complete(_up(place_of(ctx).workshop(), rev, Output(json=json)))


@app.command("down")
def down(ctx: typer.Context, json: Json = False) -> None:
    """Stop the baseline, and with it every sandbox; nothing is left behind. Down already: fine."""
    complete(_down(place_of(ctx).root(), Output(json=json)))


@app.command("status")
def status(ctx: typer.Context, json: Json = False) -> None:
    """Show health, version, lease, and the URL of each service; exit 1 unless it is up and healthy."""
    if not complete(_status(place_of(ctx).root(), Output(json=json))):
        raise typer.Exit(1)


async def _up(project: Project, rev: str, out: Output) -> None:
    from harness.runtime import connected

    commit = await (await repository_of(project, out)).resolve(rev)
    async with connected(project) as driver:
        if await driver.baseline() is None:
            baseline = await _start(driver, project, commit, out)
        else:
            baseline = await driver.up(project.system(), commit)
            out.note(f"the baseline runs already, version {baseline.version[:12]}")
        _show(baseline, out)


async def _start(driver: Driver, project: Project, commit: str, out: Output) -> Baseline:
    from harness.cli.starting import Starting
    from harness.runtime.starting import brought_up

    system = project.system()
    out.note(f"starting {', '.join(system.services)} from commit {commit[:12]}")
    try:
        with Starting(out) as starting:
            return await brought_up(driver, system, commit, starting.feed)
    except asyncio.CancelledError:
        await driver.down()
        out.note("nothing was left running")
        raise


async def _down(root: Path, out: Output) -> None:
    from harness.runtime import attached

    was_up, sandboxes = False, []
    async with attached(root) as driver:
        if driver is not None:
            was_up = await driver.baseline() is not None
            sandboxes = [sandbox.name for sandbox in await driver.list()]
            await driver.down()
    if out.json:
        out.object({"up": False, "was_up": was_up, "sandboxes_deleted": sandboxes})
        return
    if sandboxes:
        out.note(f"deleted with it: {', '.join(sandboxes)}")
    out.note("the baseline is down" if was_up else "the baseline was not up")


async def _status(root: Path, out: Output) -> bool:
    from harness.runtime import attached

    async with attached(root) as driver:
        baseline = await driver.baseline() if driver is not None else None
    if baseline is not None:
        _show(baseline, out)
        return baseline.healthy
    if out.json:
        out.object({"up": False})
    else:
        out.line("the baseline is not up")
        out.note("hint: `spurline baseline up` starts it")
    return False


def _show(baseline: Baseline, out: Output) -> None:
    ages = _ages(baseline)
    if out.json:
        out.object(baseline_document(baseline, ages))
        return
    now = time.time()
    ends = baseline.lease_ends
    out.fields(
        [
            ("baseline", _health(baseline.healthy)),
            ("version", baseline.version),
            ("up for", span(max(ages.values())) if ages else ""),
            ("lease", f"ends in {span(ends - now)}" if ends is not None else "none: stays up until `down`"),
        ]
    )
    out.line()
    out.table(
        ["service", "health", "url", "process", "up for", "ready after"],
        [_row(baseline, name, ages) for name in baseline.services],
    )


def _row(baseline: Baseline, name: str, ages: dict[str, float]) -> list[Cell]:
    running = baseline.services[name]
    process = f"pid {running.pid} at {running.address}" if running.pid else f"runs elsewhere, at {running.address}"
    age = span(ages[name]) if name in ages else ""
    ready = f"{running.ready_s:.2f} s" if running.ready_s is not None else ""
    return [name, _health(running.healthy), baseline.urls.get(name, ""), process, age, ready]


def _health(healthy: bool) -> Cell:
    return Styled("healthy", "green") if healthy else Styled("sick", "bold red")


def _ages(baseline: Baseline) -> dict[str, Any]:
    """Seconds since each service's process started, for those that live on this machine."""
    import psutil

    ages = {}
    for name, running in baseline.services.items():
        if running.pid is not None:
            with suppress(psutil.Error):
                ages[name] = max(0.0, time.time() - psutil.Process(running.pid).create_time())
    return ages
