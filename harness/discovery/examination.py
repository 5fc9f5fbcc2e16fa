"""The project: its `spurline.yaml`, repository, tickets and checks, judged without starting anything."""

from __future__ import annotations

import glob
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from harness.discovery.diagnosis import Diagnosis, ok, problem, warning
from harness.discovery.machine import model
from harness.discovery.page import open_ends
from harness.discovery.services import Ground, services
from harness.project import FILE_NAME, Project, read_project
from harness.repository import Repository
from tasks.backlog import lint
from tasks.errors import CheckoutError, ConfigError, StoreError


def read(root: Path) -> tuple[Project | None, list[Diagnosis]]:
    """The project at `root`, None where its file cannot be used, and what is to be said about the file."""
    try:
        project = read_project(root)
    except ConfigError as error:
        return None, [problem(FILE_NAME, str(error), error.hint or "mend it there", "config")]
    count = len(project.settings.baseline.services)
    said = [ok(FILE_NAME, f"valid: {count} services, entry {project.settings.baseline.entry}")]
    if left := open_ends(project.file.read_text(encoding="utf-8")):
        lines = ", ".join(str(number) for number, _ in left[:10])
        way_out = "fill them in, or delete the comments that do not matter"
        said.append(warning(FILE_NAME, f"TODO stands in line {lines}", way_out, "config"))
    return project, said


async def examine(project: Project) -> AsyncIterator[Diagnosis]:
    """The repository, the services, the tickets and the checks."""
    files: frozenset[str] | None = None
    try:
        # Not settled: an uncommitted file is a finding of its own, beside all others.
        repository = await Repository.open(project.root, settled=False)
        head = await repository.head()
        files = frozenset(await repository.files(head))
        yield ok("repository", f"{repository.root} at {head[:12]}")
        for diagnosis in _uncommitted(files, await repository.dirty()):
            yield diagnosis
        for path in await repository.submodules(head):
            way_out = "let `build` of the services that need it fetch it, or keep its code in this repository"
            yield warning("repository", f"{path} is a submodule: a checkout leaves it empty", way_out, "config")
    except (CheckoutError, StoreError) as error:
        yield problem("repository", error.message, error.hint, "config")
    for diagnosis in services(project.system(), Ground(project.root, files, os.environ)):
        yield diagnosis
    for diagnosis in tickets(project):
        yield diagnosis
    for diagnosis in checks(project):
        yield diagnosis
    yield model(project.settings.agent, project.root)


def tickets(project: Project) -> Iterator[Diagnosis]:
    """Every problem in every ticket, or how many are fine."""
    pattern = project.settings.tickets.files
    root = project.root
    paths = [root / name for name in sorted(glob.glob(pattern, root_dir=root, recursive=True))]  # noqa: PTH207
    if not paths:
        yield warning(
            "tickets",
            f"no file matches {pattern!r}",
            "write one there; Spurline's docs/reference.md has the form",
            "config",
        )
        return
    read, wrong = lint(paths)
    for error in wrong:
        yield problem("tickets", str(error), error.hint, "config")
    known = project.settings.baseline.services
    for ticket in read:
        for name in ticket.services:
            if name not in known:
                way_out = f"services: {', '.join(known)}"
                yield problem("tickets", f"{ticket.source}: there is no service {name!r}", way_out, "config")
    unproven = [ticket.id for ticket in read if not ticket.checks.all]
    if unproven:
        shown = ", ".join(unproven[:5])
        yield warning(
            "tickets",
            f"{len(unproven)} without a check of their own: {shown}",
            "they can be verified for regressions only; give each a check that fails now and passes once it is done",
            "config",
        )
    if read and not wrong:
        yield ok("tickets", f"{len(read)} are well written")


def checks(project: Project) -> Iterator[Diagnosis]:
    """The judging checks of the repository."""
    try:
        found = project.checks()
    except ConfigError as error:
        yield problem("checks", str(error), error.hint, "config")
        return
    if found:
        yield ok("checks", f"{len(found)} judge every change")
    else:
        way_out = "name a test suite that asks the running system under checks.command, or requests under checks.http"
        yield warning("checks", "none judges every change: nothing would see a regression", way_out, "config")


def _uncommitted(files: frozenset[str], dirty: tuple[str, ...]) -> Iterator[Diagnosis]:
    if FILE_NAME not in files or FILE_NAME in dirty:
        state = "is not committed" if FILE_NAME not in files else "is not as it is in the commit"
        way_out = f"`git add {FILE_NAME} && git commit`: runs and checks use the commit's"
        yield problem("repository", f"{FILE_NAME} {state}", way_out, "config")
    others = [path for path in dirty if path != FILE_NAME]
    if others:
        shown = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        yield warning(
            "repository",
            f"the work tree differs from the commit: {shown}",
            "commit what the baseline is to run, or add it to .gitignore",
            "config",
        )
