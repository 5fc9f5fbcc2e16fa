"""A project: the repository with a `spurline.yaml`, how it is found and read, and what of it the other rooms get.

Each error names the file, the line, the key and the way out. The file's shape: harness.settings.
"""

from __future__ import annotations

import glob
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedSeq

from harness.settings import ServiceSettings, Settings
from sandbox.service import PLACEHOLDER, Service, System, misnamed
from tasks.backlog import Backlog, read_backlog
from tasks.errors import ConfigError, UsageError
from tasks.ticket import Check, Frozen, HttpCheck
from tasks.yamlfile import line_of, nearest, parse, read_text, validate, wrapped

FILE_NAME = "spurline.yaml"
STATE_NAME = ".spurline"


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with a `spurline.yaml`, read and checked."""

    root: Path
    """The folder of `spurline.yaml`: the repository's root."""
    settings: Settings

    @property
    def file(self) -> Path:
        return self.root / FILE_NAME

    @property
    def state(self) -> Path:
        """`.spurline/`, where everything lives that is not the user's."""
        return self.root / STATE_NAME

    @property
    def links(self) -> tuple[str, ...]:
        """The untracked folders that services need (`link:`), below the root; sorted."""
        return tuple(sorted({link for service in self.settings.baseline.services.values() for link in service.link}))

    def system(self) -> System:
        """The services as the sandbox package knows them."""
        baseline = self.settings.baseline
        services = {
            name: Service(
                name=name,
                cwd=service.cwd,
                command=service.command,
                env=service.env,
                shared=service.shared,
                build=service.build,
                link=service.link,
                confine=service.confine,
                protocol=service.protocol,
                ready=service.ready.to_ready(),
                url=service.url,
            )
            for name, service in baseline.services.items()
        }
        return System(self.settings.project, baseline.entry, services, baseline.carriers, baseline.unknown_key)

    def backlog(self, root: Path | None = None) -> Backlog:
        """The tickets, from the work tree or from the checkout `root`."""
        pattern = self.settings.tickets.files
        paths = self._files(pattern, root)
        if not paths:
            raise ConfigError(
                f"no ticket file matches {pattern!r}",
                path=self.file,
                key="tickets.files",
                hint="write a ticket there, or correct the pattern",
            )
        backlog = read_backlog(paths)
        for ticket in backlog:
            path = ticket.source or self.file
            for name in ticket.services:
                self._known_service(name, path, "services")
            for check in ticket.checks.http:
                self._known_service(check.request.service, path, f"checks.http of {check.name!r}")
        return backlog

    def checks(self, root: Path | None = None) -> tuple[Check, ...]:
        """The judging checks of the repository, from the work tree or from the checkout `root`. Names are unique."""
        found: dict[str, Check] = {}
        for check, path, line in self._placed_checks(root):
            if check.name in found:
                raise ConfigError(f"two checks are named {check.name!r}", path=path, line=line, key="name")
            if isinstance(check, HttpCheck):
                self._known_service(check.request.service, path, "request.service", line)
            found[check.name] = check
        return tuple(found.values())

    def _placed_checks(self, root: Path | None) -> Iterator[tuple[Check, Path, int | None]]:
        """Each check with the file and the line where it begins."""
        for command in self.settings.checks.command:
            yield command, self.file, None
        files = self.settings.checks.http
        paths = self._files(files, root)
        if files is not None and not paths:
            raise ConfigError(
                f"no file matches {files!r}",
                path=self.file,
                key="checks.http",
                hint="without its checks a change would be judged by less: correct the pattern, or leave it out",
            )
        for path in paths:
            for check, line in read_http_checks(path):
                yield check, path, line

    def _files(self, pattern: str | None, root: Path | None) -> Sequence[Path]:
        if pattern is None:
            return ()
        base = root or self.root
        return [base / name for name in sorted(glob.glob(pattern, root_dir=base, recursive=True))]  # noqa: PTH207

    def _known_service(self, name: str | None, path: Path, key: str, line: int | None = None) -> None:
        services = self.settings.baseline.services
        if name is not None and name not in services:
            hint = nearest(name, services, "services")
            raise ConfigError(f"there is no service {name!r}", path=path, line=line, key=key, hint=hint)


class _HttpCheckFile(Frozen):
    checks: tuple[HttpCheck, ...]


def read_http_checks(path: Path) -> list[tuple[HttpCheck, int | None]]:
    """The HTTP checks of one file (a list, or a mapping with the one key `checks`), each with the line it begins on."""
    data = parse(read_text(path), path)
    if isinstance(data, CommentedSeq):
        data = wrapped(data, "checks")
    checks = validate(data, _HttpCheckFile, path).checks
    return [(check, line_of(data, ("checks", place))) for place, check in enumerate(checks)]


def find_root(start: Path) -> Path:
    """The nearest folder with a `spurline.yaml`, upwards from `start`."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder
    raise UsageError(
        f"there is no {FILE_NAME} here or above {start}",
        hint="`spurline init` writes one for this repository",
    )


def invocation(root: Path) -> str:
    """How a command line about the project at `root` begins where this process was started."""
    with suppress(UsageError, OSError):
        if find_root(Path.cwd()) == root.resolve():
            return "spurline"
    return shlex.join(["spurline", "-C", str(root)])


def read_project(root: Path, text: str | None = None) -> Project:
    """Read and check the `spurline.yaml` of `root`, or `text` as if it stood there. ConfigError on what is wrong."""
    path = root / FILE_NAME
    data = parse(read_text(path) if text is None else text, path)
    settings = validate(data, Settings, path)
    _check_services(settings, data, path)
    return Project(root, settings)


def _check_services(settings: Settings, data: Any, path: Path) -> None:
    baseline = settings.baseline

    def wrong(message: str, *location: str | int, hint: str) -> ConfigError:
        key = ".".join(str(part) for part in location)
        return ConfigError(message, path=path, line=line_of(data, location), key=key, hint=hint)

    if baseline.entry not in baseline.services:
        hint = nearest(baseline.entry, baseline.services, "services")
        raise wrong(f"there is no service {baseline.entry!r}", "baseline", "entry", hint=hint)
    for name, service in baseline.services.items():
        at = ("baseline", "services", name)
        if (service.url is None) == (not service.command):
            raise wrong("needs either 'command' or 'url'", *at, hint="'url' is for what runs already")
        for place, text in _texts(service):
            if (found := misnamed(text, baseline.services)) is not None:
                raise wrong(f"{found} names no service", *at, *place, hint=_placeholder_hint(found, baseline.services))
            if any(match[2] == name for match in PLACEHOLDER.finditer(text)):
                raise wrong(f"{name!r} names itself", *at, *place, hint="its own port is ${port}")


def _texts(service: ServiceSettings) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text in which placeholders are filled, with its place below the service."""
    for place, text in enumerate(service.command):
        yield ("command", place), text
    for name, text in service.env.items():
        yield ("env", name), text


def _placeholder_hint(found: str, services: Mapping[str, ServiceSettings]) -> str:
    proper = PLACEHOLDER.fullmatch(found)
    if proper is not None:
        return nearest(proper[2], services, "services")
    return "write ${port}, ${url:S}, ${host:S} or ${port:S}, S being one of " + ", ".join(services)
