"""The shape of `spurline.yaml`: which keys there are, what each may hold, and what stands for one that is left out.

The field names are the contract with users. How the file is found and read: harness.project.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from graphs.ports import MOST_ITERATIONS
from harness.fields import Inside, ServiceName, StoreAddress, address, pattern, variable
from sandbox.service import Ready
from tasks.ticket import CommandCheck, Frozen, SafeId, Seconds


class ReadySettings(Frozen):
    """How to tell that a service is ready: one of the four, or an open port where none is given."""

    http: Annotated[str, Field(pattern="^/")] | None = None
    tcp: Literal[True] | None = None
    grpc: Literal[True] | None = None
    log: Annotated[str, AfterValidator(pattern)] | None = None
    timeout: Seconds = 20.0

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(kind is not None for kind in (self.http, self.tcp, self.grpc, self.log)) > 1:
            raise ValueError("give one of 'http', 'tcp', 'grpc' and 'log'")
        return self

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
    confine: bool = True
    """Whether its forks and their builds run confined."""
    command: tuple[str, ...] = ()
    env: dict[Annotated[str, AfterValidator(variable)], str] = Field(default_factory=dict)
    protocol: Literal["http1", "http2", "tcp"] = "http1"
    ready: ReadySettings = ReadySettings()
    url: Annotated[str, AfterValidator(address)] | None = None


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
    files: Inside = "tickets/*.md"


class CheckSettings(Frozen):
    """What judges a change, and what may not be changed by it."""

    static: tuple[str, ...] = ()
    command: tuple[CommandCheck, ...] = ()
    http: Inside | None = None
    """A glob of files, each a list of HTTP checks."""
    protected: tuple[str, ...] = ("tests/**", "checks/**")
    repeat: int = Field(default=2, ge=1, le=20)


class AgentSettings(Frozen):
    kind: Literal["anthropic", "rehearsal"] = "anthropic"
    model: str = "claude-sonnet-5-5"
    max_iterations: int = Field(default=6, ge=1, le=MOST_ITERATIONS)
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
    sandboxes: int = Field(default=16, ge=1)
    """Sandboxes that are created at the same time."""
    deletions: int = Field(default=16, ge=1)
    """Sandboxes that are deleted at the same time."""
    checks: int = Field(default=8, ge=1)
    """Agents whose checks run at the same time."""
    budget_usd: float = Field(default=200.0, gt=0)
    budget_calls: int = Field(default=20_000, gt=0)
    budget_tokens: int = Field(default=100_000_000, gt=0)
    budget_minutes: float = Field(default=1440.0, gt=0)
    ticket_budget_usd: float = Field(default=4.0, gt=0)
    ticket_calls: int = Field(default=400, gt=0)
    ticket_tokens: int = Field(default=2_000_000, gt=0)
    ticket_minutes: float = Field(default=60.0, gt=0)
    ticket_failed_verdicts: int = Field(default=10, ge=1)
    ticket_nudges: int = Field(default=2, ge=0)
    """How often in a row an agent that hands in nothing new is told so, before it counts as stuck."""
    ticket_faults: int = Field(default=6, ge=0)
    """Faults of the environment, after each of which a step is tried again."""
    hold_minutes: float = Field(default=30.0, gt=0)
    """How long a fault of the environment may hold tickets before the run stops, to be taken up again."""


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
    store: StoreAddress | None = None
    """The PostgreSQL that many workers share; none: SQLite in `.spurline/`."""

    def digest(self) -> str:
        """sha256 of what the settings say, whatever the file looks like."""
        data = self.model_dump(mode="json", by_alias=True)
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
