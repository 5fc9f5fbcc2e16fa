"""`spurline tickets`: what there is to do, and what is wrong with how it is written down."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import typer

from harness.cli.app import noun
from harness.cli.options import Json, place_of
from harness.cli.output import Output, Styled
from harness.project import Project
from tasks.backlog import lint
from tasks.errors import ConfigError
from tasks.text import plain
from tasks.ticket import Ticket

app = noun("Show and check the backlog.")


@app.command("list")
def list_tickets(ctx: typer.Context, json: Json = False) -> None:
    """List the tickets in the order in which they are worked on."""
    project = place_of(ctx).project()
    out = Output(json=json)
    backlog = project.backlog()
    if json:
        for ticket in backlog:
            out.object(_document(ticket, project))
        return
    out.table(
        ["ticket", "priority", "services", "checks", "title"],
        [
            [t.id, str(t.priority), ", ".join(t.services), str(len(t.checks.all)), Styled(t.title, "bold")]
            for t in backlog
        ],
    )


@app.command("lint")
def lint_tickets(ctx: typer.Context, json: Json = False) -> None:
    """Check all ticket files and name everything that is wrong; exit 2 when there is something."""
    project = place_of(ctx).project()
    out = Output(json=json)
    paths = ticket_files(project)
    tickets, problems = lint(paths)
    problems += tuple(problem for ticket in tickets for problem in _unknown_services(ticket, project))
    for problem in problems:
        if json:
            out.object(_problem(problem, project))
        else:
            out.line(str(problem))
            if problem.hint:
                out.line(Styled(f"  hint: {problem.hint}", "dim"))
    verdict = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else "no problems"
    out.note(f"{len(paths)} ticket file{'' if len(paths) == 1 else 's'}, {verdict}")
    if problems:
        raise typer.Exit(2)


def ticket_files(project: Project) -> list[Path]:
    """The files that `tickets.files` names, sorted. ConfigError where there is none."""
    pattern = project.settings.tickets.files
    names = sorted(glob.glob(pattern, root_dir=project.root, recursive=True))  # noqa: PTH207  # one matcher for all
    if not names:
        hint = "write a ticket there, or correct the pattern"
        raise ConfigError(f"no ticket file matches {pattern!r}", path=project.file, key="tickets.files", hint=hint)
    return [project.root / name for name in names]


def _unknown_services(ticket: Ticket, project: Project) -> list[ConfigError]:
    known = project.settings.baseline.services
    named = [("services", name) for name in ticket.services]
    named += [(f"checks of {c.name}", c.request.service) for c in ticket.checks.http if c.request.service is not None]
    assert ticket.source is not None
    return [
        ConfigError(f"there is no service {name!r}", path=ticket.source, key=key, hint=f"services: {', '.join(known)}")
        for key, name in named
        if name not in known
    ]


def _document(ticket: Ticket, project: Project) -> dict[str, Any]:
    assert ticket.source is not None
    return {
        "ticket": ticket.id,
        "title": ticket.title,
        "services": list(ticket.services),
        "priority": ticket.priority,
        "labels": list(ticket.labels),
        "depends": list(ticket.depends),
        "preserve": ticket.preserve,
        "checks": [check.name for check in ticket.checks.all],
        "file": ticket.source.relative_to(project.root).as_posix(),
    }


def _problem(problem: ConfigError, project: Project) -> dict[str, Any]:
    path = problem.path.relative_to(project.root) if problem.path.is_relative_to(project.root) else problem.path
    return {
        "file": path.as_posix(),
        "line": problem.line,
        "key": problem.key,
        "problem": plain(problem.problem),
        "hint": plain(problem.hint),
    }
