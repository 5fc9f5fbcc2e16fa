"""`spurline.yaml`: its shape, how it is found and read, and what of it the other rooms get.

The field names are the contract with users. Each error names the file, the line, the key and the way out.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from sandbox.service import PLACEHOLDER, Ready, Service, System
from tasks.backlog import Backlog, read_backlog
from tasks.errors import ConfigError, UsageError
from tasks.ticket import Check, CommandCheck, Frozen, HttpCheck, SafeId, Seconds
from tasks.yamlfile import line_of, parse, read_text, validate

FILE_NAME = "spurline.yaml"
STATE_NAME = ".spurline"


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if path.startswith(("/", "~")) or ".." in parts:
        raise ValueError("must be a path below the repository's root, without '..'")
    return str(PurePosixPath(path))


Inside = Annotated[str, AfterValidator(_inside)]
ServiceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")]


class ReadySettings(Frozen):
    """How to tell that a service is ready; give one of the four."""

    http: Annotated[str, Field(pattern="^/")] | None = None
    tcp: Literal[True] | None = None
    grpc: Literal[True] | None = None
    log: str | None = None
    timeout: Seconds = 20.0

    def to_ready(self) -> Ready:
        if self.http is not None:
            return Ready("http", self.http, self.timeout)
        if self.log is not None:
            return Ready("log", self.log, self.timeout)
        return Ready("grpc" if self.grpc else "tcp", "", self.timeout)


class ServiceSettings(Frozen):
    """One service: how it is started, or (`url`) where it runs already."""

    cwd: Inside = "."
    shared: tuple[Inside, ...] = ()
    build: str | None = None
    link: tuple[Inside, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    protocol: Literal["http1", "http2", "tcp"] = "http1"
    ready: ReadySettings = ReadySettings()
    url: Annotated[str, Field(pattern=r"^https?://|^tcp://")] | None = None


class BaselineSettings(Frozen):
    """The system: its services and its entry."""

    driver: Literal["local"] = "local"
    entry: ServiceName
    services: dict[ServiceName, ServiceSettings] = Field(min_length=1)
    carriers: tuple[str, ...] = ()
    """Further headers that carry the key between your services, such as `x-request-id`."""
    unknown_key: Literal["refuse", "baseline"] = "refuse"
    ttl: Seconds = 1800.0
    """How long a sandbox lives without a sign of life from its owner."""


class TicketSettings(Frozen):
    files: str = "tickets/*.md"


class CheckSettings(Frozen):
    """What judges a change, and what may not be changed by it."""

    static: tuple[str, ...] = ()
    command: tuple[CommandCheck, ...] = ()
    http: str | None = None
    """A glob of files, each a list of HTTP checks."""
    protected: tuple[str, ...] = ("tests/**", "checks/**")
    repeat: int = Field(default=2, ge=1, le=20)


class AgentSettings(Frozen):
    kind: Literal["anthropic", "rehearsal"] = "anthropic"
    model: str = "claude-sonnet-5-5"
    max_iterations: int = Field(default=6, ge=1, le=100)
    max_tokens: int = Field(default=16_000, ge=256)
    """Output tokens of one model call."""
    turns: int = Field(default=80, ge=1)
    """Model calls of one iteration, before the agent is told to hand in what it has."""
    recordings: Inside = "recordings"
    """Folder of recordings that kind `rehearsal` plays."""


class LimitSettings(Frozen):
    agents: int = Field(default=100, ge=1, le=10_000)
    model_calls: int = Field(default=40, ge=1)
    forks: int = Field(default=8, ge=1)
    """Forks that start at the same time."""
    checks: int = Field(default=8, ge=1)
    """Agents whose checks run at the same time."""
    budget_usd: float = Field(default=200.0, gt=0)
    ticket_budget_usd: float = Field(default=4.0, gt=0)
    ticket_minutes: float = Field(default=60.0, gt=0)


class SubmitSettings(Frozen):
    to: Literal["branch"] = "branch"
    keep_sandbox: bool = False
    """Leave the sandbox of a verified ticket to its lease, for a human to try."""


class Settings(Frozen):
    """The whole of `spurline.yaml`."""

    project: SafeId
    baseline: BaselineSettings
    tickets: TicketSettings = TicketSettings()
    checks: CheckSettings = CheckSettings()
    agent: AgentSettings = AgentSettings()
    limits: LimitSettings = LimitSettings()
    submit: SubmitSettings = SubmitSettings()
    store: str | None = None

    def digest(self) -> str:
        """sha256 of what the settings say, whatever the file looks like."""
        data = self.model_dump(mode="json", by_alias=True)
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


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
            for name in ticket.services:
                self._known_service(name, ticket.source or self.file, "services")
        return backlog

    def checks(self, root: Path | None = None) -> tuple[Check, ...]:
        """The judging checks of the repository, from the work tree or from the checkout `root`. Names are unique."""
        found: list[Check] = list(self.settings.checks.command)
        for path in self._files(self.settings.checks.http, root):
            found += read_http_checks(path)
        seen: set[str] = set()
        for check in found:
            if check.name in seen:
                raise ConfigError(f"two checks are named {check.name!r}", path=self.file, key="checks")
            seen.add(check.name)
            if isinstance(check, HttpCheck) and check.request.service is not None:
                self._known_service(check.request.service, self.file, f"checks of {check.name}")
        return tuple(found)

    def _files(self, pattern: str | None, root: Path | None) -> Sequence[Path]:
        if pattern is None:
            return ()
        base = root or self.root
        return [base / name for name in sorted(glob.glob(pattern, root_dir=base, recursive=True))]  # noqa: PTH207

    def _known_service(self, name: str, path: Path, key: str) -> None:
        services = self.settings.baseline.services
        if name not in services:
            raise ConfigError(
                f"there is no service {name!r}", path=path, key=key, hint=f"services: {', '.join(services)}"
            )


class _HttpCheckFile(Frozen):
    checks: tuple[HttpCheck, ...]


def read_http_checks(path: Path) -> tuple[HttpCheck, ...]:
    """The HTTP checks of one file: a list, or a mapping with the one key `checks`."""
    text = read_text(path)
    data = parse(text, path)
    if isinstance(data, list):
        # One shape to validate: a list stands for a mapping with its one key.
        indented = "".join(f"  {line}" for line in text.splitlines(keepends=True))
        data = parse(f"checks:\n{indented}", path, first_line=0)
        return validate(data, _HttpCheckFile, path, first_line=0).checks
    return validate(data, _HttpCheckFile, path).checks


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


def read_project(root: Path) -> Project:
    """Read and check the `spurline.yaml` of `root`. ConfigError on the first thing that is wrong."""
    path = root / FILE_NAME
    data = parse(read_text(path), path)
    settings = validate(data, Settings, path)
    _check_services(settings, data, path)
    return Project(root, settings)


def _check_services(settings: Settings, data: Any, path: Path) -> None:
    baseline = settings.baseline
    names = ", ".join(baseline.services)

    def wrong(message: str, *location: str, hint: str) -> ConfigError:
        return ConfigError(message, path=path, line=line_of(data, location), key=".".join(location), hint=hint)

    if baseline.entry not in baseline.services:
        raise wrong(f"there is no service {baseline.entry!r}", "baseline", "entry", hint=f"services: {names}")
    for name, service in baseline.services.items():
        at = ("baseline", "services", name)
        if (service.url is None) == (not service.command):
            raise wrong("needs either 'command' or 'url'", *at, hint="'url' is for what runs already")
        texts: list[tuple[tuple[str, ...], str]] = [(("command",), text) for text in service.command]
        texts += [(("env", key), text) for key, text in service.env.items()]
        for place, text in texts:
            for match in PLACEHOLDER.finditer(text):
                if match[2] is not None and match[2] not in baseline.services:
                    raise wrong(f"${{{match[1]}:{match[2]}}} names no service", *at, *place, hint=f"services: {names}")
                if match[2] == name:
                    raise wrong(f"{name!r} names itself", *at, *place, hint="its own port is ${port}")
