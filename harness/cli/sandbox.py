"""`spurline sandbox`: sandboxes by hand. Of use on the first day, without any agent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import completion
from harness.cli.app import noun
from harness.cli.connection import LISTED, live, named, not_up
from harness.cli.documents import sandbox_document
from harness.cli.forks import read_forks
from harness.cli.interrupts import complete
from harness.cli.options import Follow, Json, SandboxName, ServiceOption, duration, place_of, sandbox_name
from harness.cli.output import Cell, Output, Styled
from harness.cli.place import repository_of
from harness.cli.streams import print_exchanges, print_logs
from harness.project import Project
from sandbox.driver import Driver, Fork, Sandbox, Source
from sandbox.keys import masked
from tasks.errors import SandboxTaken, SpurlineError, UsageError
from tasks.text import span

app = noun("Make, change and look into sandboxes: forks of services beside the baseline, reached by a routing key.")

Forks = Annotated[
    list[str] | None,
    typer.Option(
        "--fork",
        metavar="SERVICE[=REV or PATH]",
        autocompletion=completion.forks,
        help="A service to fork, from a commit (default HEAD) or from a folder as it stands; may be repeated.",
    ),
]
ShowKey = Annotated[bool, typer.Option("--show-key", help="Print the routing key in full.")]


@app.command("create")
def create(
    ctx: typer.Context,
    name: SandboxName,
    fork: Forks = None,
    ttl: Annotated[str, typer.Option("--ttl", metavar="TIME", help="How long it lives: 30m, 2h, …")] = "30m",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the sandbox when a fork fails.")] = False,
    show_key: ShowKey = False,
    json: Json = False,
) -> None:
    """Make a sandbox and fork services in it; print its URL."""
    ttl_s = duration(ttl, "--ttl")
    project = place_of(ctx).workshop()
    out = Output(json=json)
    made = complete(_create(project, sandbox_name(name), fork or [], ttl_s, out, keep=keep))
    _show(made, project, out, show_key=show_key)


@app.command("update")
def update(ctx: typer.Context, name: SandboxName, fork: Forks = None, json: Json = False) -> None:
    """Move forks of a sandbox to another commit or folder, without one failed request; add new ones."""
    if not fork:
        raise UsageError("nothing to update", hint=f"`spurline sandbox update {name} --fork SERVICE[=REV or PATH]`")
    project = place_of(ctx).workshop()
    out = Output(json=json)
    changed = complete(_update(project, sandbox_name(name), fork, out))
    _show(changed, project, out, show_key=False)


@app.command("list")
def list_sandboxes(ctx: typer.Context, json: Json = False) -> None:
    """List the sandboxes that live."""
    project = place_of(ctx).project()
    out = Output(json=json)
    found = complete(_list(project))
    entry = project.settings.baseline.entry
    if json:
        for sandbox in found:
            out.object(sandbox_document(sandbox, entry))
        return
    now = time.time()
    out.table(
        ["sandbox", "forks", "lease", "url"],
        [[s.name, _forks_in_short(s), f"{span(s.lease_ends - now)} left", s.urls.get(entry, "")] for s in found],
        empty="there is no sandbox; `spurline sandbox create NAME --fork SERVICE` makes one",
    )


@app.command("show")
def show(ctx: typer.Context, name: SandboxName, show_key: ShowKey = False, json: Json = False) -> None:
    """Show one sandbox: URLs, forks, lease."""
    project = place_of(ctx).project()
    _show(complete(_get(project, sandbox_name(name))), project, Output(json=json), show_key=show_key)


@app.command("logs")
def logs(
    ctx: typer.Context,
    name: SandboxName,
    service: ServiceOption = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only the last 5m, 30s, …")] = None,
    follow: Follow = False,
    json: Json = False,
) -> None:
    """Print what the forks write; with --service also what the baseline's service of that name writes."""
    since_at = time.time() - duration(since, "--since") if since else 0.0
    project = place_of(ctx).project()
    complete(print_logs(project, sandbox_name(name), service, since_at, Output(json=json), follow=follow))


@app.command("exchanges")
def exchanges(ctx: typer.Context, name: SandboxName, follow: Follow = False, json: Json = False) -> None:
    """Print the failing exchanges of a sandbox, with headers and bodies as they passed the router."""
    project = place_of(ctx).project()
    complete(print_exchanges(project, sandbox_name(name), Output(json=json), follow=follow))


@app.command("delete")
def delete(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME…", autocompletion=completion.sandboxes)] = None,
    all_: Annotated[bool, typer.Option("--all", help="Delete every sandbox of the project.")] = False,
    json: Json = False,
) -> None:
    """Delete sandboxes: forks, routes and keys. Deleted already: fine."""
    wanted = [sandbox_name(name) for name in names or []]
    if bool(wanted) == all_:
        raise UsageError("give names or --all", hint="`spurline sandbox list` shows the names")
    complete(_delete(place_of(ctx).root(), wanted, Output(json=json)))


@app.command("gc")
def gc(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    json: Json = False,
) -> None:
    """Remove what nobody owns any more: sandboxes that expired, and processes and checkouts that were left behind."""
    from harness.runtime import collect

    found = complete(collect(place_of(ctx).workshop(), dry_run=dry_run))
    out = Output(json=json)
    if json:
        out.object({"would_remove" if dry_run else "removed": list(found)})
        return
    for name in found:
        out.line(name)
    if dry_run:
        out.note(f"would remove {len(found)}" if found else "there is nothing to remove")
    else:
        out.note(f"removed {len(found)}" if found else "there was nothing to remove")


async def _create(
    project: Project, name: str, forks: Sequence[str], ttl_s: float, out: Output, *, keep: bool
) -> Sandbox:
    sources = await read_forks(forks, project, await repository_of(project, out))
    async with live(project.root) as driver:
        if await driver.baseline() is None:
            raise not_up()
        if name in [sandbox.name for sandbox in await driver.list()]:
            raise _taken(name)
        _announce(sources, out)
        try:
            if keep:
                return await _create_to_keep(driver, name, sources, ttl_s, out)
            return await driver.create(name, ttl_s=ttl_s, sources=sources)
        except SandboxTaken:
            raise _taken(name) from None
        except asyncio.CancelledError:
            if not keep:
                await driver.delete(name)  # called off already; this returns when nothing of it is left
            raise


async def _create_to_keep(
    driver: Driver, name: str, sources: Mapping[str, Source], ttl_s: float, out: Output
) -> Sandbox:
    made = await driver.create(name, ttl_s=ttl_s)
    try:
        return await driver.fork(name, sources) if sources else made
    except (SpurlineError, asyncio.CancelledError):
        out.note(f"the sandbox {name} was kept, without forks")
        raise


async def _update(project: Project, name: str, forks: Sequence[str], out: Output) -> Sandbox:
    sources = await read_forks(forks, project, await repository_of(project, out))
    async with live(project.root) as driver:
        await named(driver, name)
        _announce(sources, out)
        return await driver.fork(name, sources)


async def _list(project: Project) -> tuple[Sandbox, ...]:
    from harness.runtime import attached

    async with attached(project.root) as driver:
        return await driver.list() if driver is not None else ()


async def _get(project: Project, name: str) -> Sandbox:
    async with live(project.root) as driver:
        return await named(driver, name)


async def _delete(root: Path, names: list[str], out: Output) -> None:
    from harness.runtime import attached

    async with attached(root) as driver:
        living = [sandbox.name for sandbox in await driver.list()] if driver is not None else []
        for name in names or living:
            if driver is not None:
                await driver.delete(name)
            if out.json:
                out.object({"sandbox": name, "deleted": name in living})
            else:
                out.note(f"deleted {name}" if name in living else f"there was no sandbox {name}")


def _taken(name: str) -> UsageError:
    return UsageError(f"the sandbox {name!r} exists already", hint=f"take another name, or delete it; {LISTED}")


def _announce(sources: Mapping[str, Source], out: Output) -> None:
    for service, source in sources.items():
        if source.folder is not None:
            out.warning(f"{service} runs {source.folder} as it stands, which is never judged; only a commit is")
        else:
            assert source.commit is not None
            out.note(f"forking {service} from commit {source.commit[:12]}")


def _show(sandbox: Sandbox, project: Project, out: Output, *, show_key: bool) -> None:
    entry = project.settings.baseline.entry
    if out.json:
        out.object(sandbox_document(sandbox, entry, show_key=show_key))
        return
    url = sandbox.urls.get(entry, "")
    out.fields(
        [
            ("sandbox", Styled(sandbox.name, "bold")),
            ("url", url),
            ("key", sandbox.key if show_key else f"{masked(sandbox.key)} (--show-key prints all of it)"),
            ("lease", f"{span(sandbox.lease_ends - time.time())} left"),
            ("faults", ", ".join(sandbox.faults)),
        ]
    )
    out.line()
    if sandbox.forks:
        rows = [_fork_row(fork, sandbox) for fork in sandbox.forks.values()]
        out.table(["fork", "generation", "runs", "state", "ready after", "url"], rows)
    others = [(name, url) for name, url in sandbox.urls.items() if name not in sandbox.forks and name != entry]
    if others:
        out.line()
        out.table(["served by the baseline", "keyed url"], others)
    out.note(f"\ncall it:  curl {url}/…   or   spurline request --sandbox {sandbox.name} GET /…")


def _fork_row(fork: Fork, sandbox: Sandbox) -> list[Cell]:
    runs: Cell = fork.commit[:12] if fork.commit else Styled("a folder, never judged", "yellow")
    state: Cell = Styled("alive", "green") if fork.alive else Styled("dead", "bold red")
    url = sandbox.urls.get(fork.service, "")
    return [fork.service, f"g{fork.generation}", runs, state, f"{fork.ready_s:.2f} s", url]


def _forks_in_short(sandbox: Sandbox) -> str:
    forks = [f"{fork.service} g{fork.generation}{'' if fork.alive else ' (dead)'}" for fork in sandbox.forks.values()]
    return ", ".join(forks) or "none"
