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
    """`running`, `finished` or `interrupted`."""
    settings_digest: str
    settings: str = Field(sa_column=Column(Text, nullable=False))
    spurline: str
    """The version that began it."""
    tickets: int
    started_at: float
    ended_at: float | None = None


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


class BaselineResultRow(SQLModel, table=True):
    """What a check said of the untouched baseline, once a version."""

    __tablename__ = "baseline_results"

    version: str = Field(primary_key=True)
    digest: str = Field(primary_key=True)
    at: float
    document: str = Field(sa_column=Column(Text, nullable=False))
