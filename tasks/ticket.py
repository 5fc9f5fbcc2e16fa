"""A ticket: one unit of the backlog, with the services it may change and its own checks.

Pydantic models, since tickets come from outside: unknown keys are refused, everything is frozen.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

ID_LIMIT: Final = 80
"""Characters of an id: it names files, branches and sandboxes."""

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def safe_id(value: str) -> str:
    """`value` if it can name a file, a branch and a sandbox; else ValueError."""
    if len(value) > ID_LIMIT or ".." in value or value.endswith(".lock") or not _ID.fullmatch(value):
        raise ValueError(
            "must be 1 to 80 letters, digits, '.', '_' or '-', start with a letter or digit, "
            "and hold no '..', no '/' and no '.lock' at the end"
        )
    return value


def seconds(value: object) -> object:
    """`20s`, `1.5m`, `300ms`, `1h` or a bare number of seconds, as seconds."""
    if isinstance(value, bool):
        raise ValueError("must be a duration such as 20s, 1.5m, 300ms or 1h")
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError("must be a duration such as 20s, 1.5m, 300ms or 1h")
        return float(match[1]) * _UNIT_S[match[2]]
    return value


def expression(value: str) -> str:
    """`value` if it is a JMESPath expression; else ValueError."""
    # Only checks that have one need the library.
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        jmespath.compile(value)
    except JMESPathError as error:
        raise ValueError(f"is no JMESPath expression: {str(error).splitlines()[0]}") from None
    return value


Seconds = Annotated[float, BeforeValidator(seconds), Field(gt=0)]
SafeId = Annotated[str, AfterValidator(safe_id)]


class Frozen(BaseModel):
    """The base of all values read from files: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CommandCheck(Frozen):
    """A program of the user's that judges the running system from outside; exit 0 passes."""

    kind: Literal["command"] = Field(default="command", exclude=True)
    name: str = Field(min_length=1)
    run: str = Field(min_length=1)
    timeout: Seconds = 300.0


class HttpRequest(Frozen):
    """What an HTTP check sends. `service` defaults to the entry."""

    service: str | None = None
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    path: Annotated[str, Field(pattern=r"^/")]
    headers: dict[str, str] = {}
    json_body: Any = Field(default=None, alias="json")
    body: str | None = None

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.json_body is not None and self.body is not None:
            raise ValueError("give either 'json' or 'body'")
        return self


class HttpExpectation(Frozen):
    """What must hold of the answer. `json` matches as a subset: objects by key, lists by position, an
    empty list only itself."""

    status: int | None = None
    json_body: Any = Field(default=None, alias="json")
    jmespath: dict[Annotated[str, AfterValidator(expression)], Any] = {}
    contains: str | None = None
    headers: dict[str, str] = {}

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self == HttpExpectation.model_construct():
            raise ValueError(
                "expects nothing, so it could never fail: give a status, json, jmespath, contains or headers"
            )
        return self


class HttpCheck(Frozen):
    """One declarative request with what to expect of its answer."""

    kind: Literal["http"] = Field(default="http", exclude=True)
    name: str = Field(min_length=1)
    request: HttpRequest
    expect: HttpExpectation
    timeout: Seconds = 30.0


Check = CommandCheck | HttpCheck


class TicketChecks(Frozen):
    """The ticket's own checks: they must fail on the baseline and pass in the sandbox."""

    command: tuple[CommandCheck, ...] = ()
    http: tuple[HttpCheck, ...] = ()

    @property
    def all(self) -> tuple[Check, ...]:
        return (*self.command, *self.http)


class TicketHead(Frozen):
    """The YAML front matter of a ticket file, exactly as users write it."""

    id: SafeId
    title: str = Field(min_length=1)
    services: tuple[str, ...] = ()
    priority: int = 0
    labels: tuple[str, ...] = ()
    depends: tuple[SafeId, ...] = ()
    preserve: bool = False
    checks: TicketChecks = TicketChecks()


class Ticket(TicketHead):
    """A ticket as the loop sees it: the front matter, the body, and where it came from."""

    body: str = ""
    source: Path | None = None
    copy_of: SafeId | None = None
    """The id of the ticket that this one repeats in a multiplied backlog. Held, since no id tells: users number theirs
    as they like."""

    @property
    def origin(self) -> str:
        """The id under which the ticket was written: its own, unless it is a copy."""
        return self.copy_of or self.id
