"""What `--fork SERVICE[=REV or PATH]` means."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.project import Project
from harness.repository import Repository
from sandbox.driver import Source
from sandbox.service import Service
from tasks.errors import CheckoutError, UsageError


async def read_forks(texts: Sequence[str], project: Project, repository: Repository) -> dict[str, Source]:
    """The sources by service, in the order given. UsageError or CheckoutError names the one that cannot be used."""
    services = project.system().services
    sources: dict[str, Source] = {}
    for text in texts:
        name, _, what = text.partition("=")
        service = _forkable(name, services)
        if name in sources:
            raise UsageError(f"--fork names {name!r} twice", hint="a sandbox has one fork of a service")
        sources[name] = await _source(what or "HEAD", service, repository)
    return sources


def _forkable(name: str, services: Mapping[str, Service]) -> Service:
    service = services.get(name)
    if service is None:
        near = difflib.get_close_matches(name, services, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"services: {', '.join(services)}"
        raise UsageError(f"--fork: there is no service {name!r}", hint=hint)
    if service.url is not None:
        raise UsageError(
            f"--fork: {name!r} runs elsewhere (`url`), so it cannot be forked",
            hint="give it a `command` in spurline.yaml for Spurline to start it",
        )
    return service


async def _source(what: str, service: Service, repository: Repository) -> Source:
    """A folder where there is one, or where it is written like a path; else a commit."""
    folder = Path(what).expanduser()
    if folder.is_dir():
        return Source(folder=_repository_of(folder.resolve(), service))
    if what.startswith(("/", "./", "../", "~")) or what in (".", ".."):
        raise UsageError(f"--fork {service.name}={what}: there is no such folder", hint="give a folder or a commit")
    try:
        return Source(commit=await repository.resolve(what))
    except CheckoutError:
        raise CheckoutError(
            f"--fork {service.name}={what}: {what!r} is neither a commit nor a folder",
            hint="`git log --oneline --all` shows the commits; a folder may be written as ./path",
        ) from None


def _repository_of(folder: Path, service: Service) -> Path:
    """The folder that holds the service's `cwd`: the given one, or the one above when the service's own was given."""
    if (folder / service.cwd).is_dir():
        return folder
    parts = Path(service.cwd).parts
    if folder.parts[-len(parts) :] == parts:
        return folder.parents[len(parts) - 1]
    raise UsageError(
        f"--fork {service.name}={folder}: it has no folder {service.cwd!r}, where {service.name!r} is started",
        hint="give a folder that is laid out like the repository",
    )
