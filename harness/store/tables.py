"""The tables. Ids are text, times are seconds since the epoch, documents are canonical JSON text."""

from __future__ import annotations

from sqlalchemy import Column, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel


class RunRow(SQLModel, table=True):
    """One execution of a backlog."""

    __tablename__ = "runs"

    id: str = Field(primary_key=True)
    project: str
    base: str
    state: str
    """`running`, `finished`, `interrupted` or `cancelled`."""
    settings_digest: str
    settings: str = Field(sa_column=Column(Text, nullable=False))
    spurline: str
    """The version that began it."""
    tickets: int
    started_at: float
    ended_at: float | None = None
    options: str = Field(default="{}", sa_column=Column(Text, nullable=False))
    """What the user said beside the settings, as JSON: with it the run can be taken up again."""
    wish: str = ""
    """What the user wants of the whole run: nothing, `paused` or `cancelled`."""
    limits: str = Field(default="{}", sa_column=Column(Text, nullable=False))
    """Limits that were changed since it began, as JSON."""
    revision: int = 0
    """Grows with every wish and limit: who works on the run looks here whether there is something new."""


class AgentRow(SQLModel, table=True):
    """The worker on one ticket in one run. `state` is one of tasks.states."""

    __tablename__ = "agents"

    run: str = Field(primary_key=True, foreign_key="runs.id")
    ticket: str = Field(primary_key=True)
    place: int
    """Its place in the backlog."""
    title: str
    state: str
    reason: str = ""
    iterations: int = 0
    sandbox: str | None = None
    branch: str | None = None
    commit: str | None = None
    verdict: str | None = None
    submission: str | None = None
    model_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    attempt: int = 1
    """Counts up when the ticket is retried; what else stands here is of this attempt."""
    carries_on: int = 0
    """The attempt from whose end this one goes on; 0: it begins anew."""
    wish: str = ""
    """What the user wants of this ticket: nothing, `paused` or `cancelled`."""
    holder: str | None = None
    """The worker that has the ticket."""
    machine: str = ""
    """The name of the machine that worked on it last, whose repository has its branch; empty: none has yet."""
    generation: int = 0
    """Grows whenever the ticket changes hands: writes of an earlier holder are refused."""
    lease_ends: float | None = None
    not_before: float = 0.0
    """After a fault of the environment: when to try again, by the clock of leases."""
    failed_verdicts: int = 0
    faults: int = 0
    """Faults of the environment that broke a step off."""
    nudges: int = 0
    worked_s: float = 0.0
    """How long it has been worked on, waiting for the environment left out."""
    environment: bool = False
    """Whether it ended by a fault of the environment."""
    keep_until: float | None = None
    """Until when its sandbox is to live on where it has ended before."""
    limits: str = Field(default="{}", sa_column=Column(Text, nullable=False))
    """Its own budgets, where it has others than the rest of the run, as JSON; further attempts have them too."""

    @property
    def counted_tokens(self) -> int:
        """As budgets count them: output, and input that was not read from the cache."""
        return self.input_tokens + self.cache_write_tokens + self.output_tokens


class AttemptRow(SQLModel, table=True):
    """An attempt that ended and was followed by another one. Never changed."""

    __tablename__ = "attempts"

    run: str = Field(primary_key=True)
    ticket: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    state: str
    reason: str
    model_calls: int
    tokens: int
    """As budgets count them; see `AgentRow.counted_tokens`."""
    cost_usd: float
    document: str = Field(sa_column=Column(Text, nullable=False))
    """All of its row, as JSON."""


class WorkerRow(SQLModel, table=True):
    """A process that works, or worked, on a run."""

    __tablename__ = "workers"

    id: str = Field(primary_key=True)
    run: str = Field(index=True)
    host: str
    pid: int
    born: float
    """When the process started, as `sandbox.presence.born_at` says it: ids of processes are given out again."""
    leads: bool
    """Whether it began the run or took it up, and did not join it."""
    began_at: float
    """When it entered the run. This and all that follows is of the clock of leases; see `harness.store.backend`."""
    seen_at: float
    ended_at: float | None = None
    holds: str = Field(default="null", sa_column=Column(Text, nullable=False))
    """What of the run's budget it may use, as JSON; see `harness.store.purse`. null, or a measure that is missing: all
    of it."""

    @property
    def where(self) -> str:
        """For people: two machines give out the same ids of processes."""
        return f"process {self.pid} on {self.host.split('/')[0]}"


class EventRow(SQLModel, table=True):
    """The append-only journal."""

    __tablename__ = "events"
    __table_args__ = (Index("events_by_run", "run", "seq"),)

    seq: int | None = Field(default=None, primary_key=True)
    run: str
    ticket: str | None = None
    kind: str
    at: float
    data: str = Field(sa_column=Column(Text, nullable=False))


class EffectRow(SQLModel, table=True):
    """Every outside effect: intent first, then what was observed."""

    __tablename__ = "effects"
    __table_args__ = (UniqueConstraint("kind", "target"),)

    id: int | None = Field(default=None, primary_key=True)
    kind: str
    target: str
    state: str
    """`intent` or `observed`; an intent whose process died is unknown until it is looked up."""
    result: str = ""
    at: float


class VerdictRow(SQLModel, table=True):
    """A verdict's whole document, evidence included."""

    __tablename__ = "verdicts"
    __table_args__ = (Index("verdicts_by_ticket", "run", "ticket"),)

    id: str = Field(primary_key=True)
    run: str
    ticket: str
    at: float
    conclusion: str
    document: str = Field(sa_column=Column(Text, nullable=False))


class MessageRow(SQLModel, table=True):
    """What the loop said to an agent; the graph's state holds only the id."""

    __tablename__ = "messages"

    id: str = Field(primary_key=True)
    run: str
    ticket: str
    at: float
    text: str = Field(sa_column=Column(Text, nullable=False))


class NoteRow(SQLModel, table=True):
    """What the user said to an agent while it was at work."""

    __tablename__ = "notes"
    __table_args__ = (Index("notes_by_ticket", "run", "ticket"),)

    id: int | None = Field(default=None, primary_key=True)
    run: str
    ticket: str
    attempt: int
    """The attempt whose agent is, or was, to be told."""
    at: float
    text: str = Field(sa_column=Column(Text, nullable=False))
    told_at: float | None = None
    """When it had come into the conversation; None: it has not, as far as is known."""


class BaselineResultRow(SQLModel, table=True):
    """What a check said of the untouched baseline, once a version."""

    __tablename__ = "baseline_results"

    version: str = Field(primary_key=True)
    digest: str = Field(primary_key=True)
    at: float
    document: str = Field(sa_column=Column(Text, nullable=False))


class WriterRow(SQLModel, table=True):
    """The last batch that a writer has committed. Only where a commit can be in doubt: over a network."""

    __tablename__ = "writers"

    id: str = Field(primary_key=True)
    batch: int
    at: float
