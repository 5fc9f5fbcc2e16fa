"""`spurline doctor`: what is still missing, on this machine and in this project, and which services forward the key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from harness.cli.app import single
from harness.cli.interrupts import complete
from harness.cli.options import Json, place_of
from harness.cli.output import Output, Styled
from harness.cli.place import prepare_state
from harness.discovery.diagnosis import Diagnosis, exit_code, ok, problem, warning
from harness.project import STATE_NAME, Project
from sandbox.driver import Driver
from tasks.errors import EnvironmentFault, ForkError, SpurlineError, StoreError, UsageError

app = single()

_LEASE_S: Final = 300.0
_STYLES: Final = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@app.command()
def doctor(
    ctx: typer.Context,
    start: Annotated[
        bool, typer.Option("--start", help="Start the baseline for the probe where it is not up, and stop it after.")
    ] = False,
    request: Annotated[
        list[str] | None,
        typer.Option("--request", metavar="'GET /path'", help="Probe with this too; may be given several times."),
    ] = None,
    json: Json = False,
) -> None:
    """Say what is still missing, each with its way out; exit 0 unless something must be mended.

    Where the baseline is up, probes it with a throw-away key, to find which services hand the key on. Only harmless
    requests are sent (GETs of your checks and tickets), save those that --request names.
    """
    place = place_of(ctx)
    out = Output(json=json)
    found: list[Diagnosis] = []
    complete(_look(place.root(), request or [], found, out, start=start))
    problems = sum(1 for one in found if one.level == "problem")
    warnings = sum(1 for one in found if one.level == "warning")
    out.note(f"{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}")
    if code := exit_code(found):
        raise typer.Exit(code)


async def _look(root: Path, requests: list[str], found: list[Diagnosis], out: Output, *, start: bool) -> None:
    from harness.discovery import examination
    from harness.discovery.machine import machine

    def tell(one: Diagnosis) -> None:
        found.append(one)
        _show(one, out)

    for one in machine(root):
        tell(one)
    tell(_state(root))
    project, said = examination.read(root)
    for one in said:
        tell(one)
    if project is None:
        return
    async for one in examination.examine(project):
        tell(one)
    tell(_store(project))
    broken = any(one.level == "problem" and one.kind == "config" for one in found)
    try:
        async with _baseline(project, out, start=start and not broken) as driver:
            for one in await _carriers(project, driver, requests, start=start, broken=broken):
                tell(one)
    except UsageError:
        raise
    except SpurlineError as error:
        text = error.message
        if isinstance(error, ForkError) and error.log:
            text = f"{text}; it said: {error.log[-1]}"
        tell(problem("baseline", text, error.hint, "environment" if isinstance(error, EnvironmentFault) else "config"))


async def _carriers(
    project: Project, driver: Driver | None, requests: list[str], *, start: bool, broken: bool
) -> list[Diagnosis]:
    """What the probe of the running baseline shows; a warning where there is none to probe."""
    from harness.discovery.forwarding import explained
    from harness.discovery.probing import known_requests, parse_request, probe
    from harness.repository import Repository

    asked = [parse_request(text, project.settings.baseline.entry) for text in requests]
    baseline = await driver.baseline() if driver is not None else None
    if driver is None or baseline is None:
        if start and broken:
            return [warning("baseline", "not started for the probe", "mend the problems above first")]
        way_out = "`spurline baseline up` first, or `spurline doctor --start`"
        return [warning("baseline", "is not up: what its services forward was not looked at", way_out)]
    sick = [name for name, service in baseline.services.items() if not service.healthy]
    if sick:
        return [problem("baseline", f"is up, but sick: {', '.join(sick)}", "`spurline baseline down`, then `up`")]
    probed = await probe(driver, project.system(), [*known_requests(project), *asked])
    said = [ok("baseline", f"is up and healthy, version {baseline.version[:12]}; {probed.sent} requests were sent")]
    head = await (await Repository.open(project.root, settled=False)).head()
    if head != baseline.version:
        way_out = "`spurline baseline down`, then `up`, where it is to run what is checked out"
        said.append(warning("baseline", f"runs {baseline.version[:12]}, and HEAD is {head[:12]}", way_out))
    said += [warning("probe", f"no answer to {text}", "see its logs") for text in probed.unanswered]
    if probed.dropped:
        said.append(warning("probe", f"{probed.dropped} records were lost: what follows has holes", "ask once more"))
    return said + [explained(one) for one in probed.forwarding]


@asynccontextmanager
async def _baseline(project: Project, out: Output, *, start: bool) -> AsyncIterator[Driver | None]:
    """The driver where something runs; with `start`, a baseline of our own where none is up."""
    from harness.repository import Repository
    from harness.runtime import attached, connected
    from harness.runtime.starting import StartLog, brought_up

    if not start:
        async with attached(project.root) as running:
            yield running
        return
    commit = await (await Repository.open(project.root, settled=False)).head()
    async with connected(project) as driver:
        ours = await driver.baseline() is None
        try:
            if ours:
                # With a lease: should this process die, the baseline goes by itself.
                out.note(f"starting the baseline from commit {commit[:12]}, for the probe")
                await brought_up(driver, project.system(), commit, StartLog(out.note), lease_s=_LEASE_S)
            yield driver
        finally:
            if ours:
                await driver.down()


def _state(root: Path) -> Diagnosis:
    try:
        prepare_state(root / STATE_NAME)
    except UsageError as error:
        return problem("state", error.message, error.hint)
    return ok("state", f"{STATE_NAME}/ can be written")


def _store(project: Project) -> Diagnosis:
    from harness.runtime import store_place
    from harness.store.database import look

    place = store_place(project, "spurline.db")
    if isinstance(place, Path) and not place.exists():
        return ok("store", f"SQLite in {STATE_NAME}/, made when it is first needed")
    try:
        name, version = look(place)
    except (StoreError, UsageError) as error:
        return problem(
            "store", error.message, error.hint, "environment" if isinstance(error, EnvironmentFault) else "config"
        )
    return ok("store", f"{name} answers; {f'schema {version}' if version else 'its schema is made when first needed'}")


def _show(one: Diagnosis, out: Output) -> None:
    if out.json:
        out.object({"level": one.level, "subject": one.subject, "text": one.text, "way_out": one.way_out})
        return
    out.line(Styled(f"{one.level:<7}  {one.subject}: {one.text}", _STYLES[one.level]))
    if one.way_out:
        out.line(f"         → {one.way_out}")


def _counted(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"
