"""What crosses the keeper's socket: the driver's calls, its values and its errors, as JSON.

Both ends use the very dataclasses of `sandbox.driver`; this module only says how they are written down. An error
crosses by its `code` and comes back as the same class with all of its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Final, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from sandbox.driver import Baseline, Cursor, LogLine, Sandbox, Source, Start, Window
from sandbox.service import System
from tasks import errors
from tasks.errors import ForkError, SandboxError, SpurlineError

VERSION_HEADER: Final = "x-spurline-version"
CALLS: Final = "/driver/"
HELLO: Final = "/hello"
OTHER_VERSIONS_MAY: Final = frozenset({"down"})
"""The calls that a client of another version may make: the way out of having two versions."""

T = TypeVar("T")


@cache  # a later one may be installed under a keeper that goes on with what it has
def version() -> str:
    """The version of Spurline that this process runs."""
    try:
        return metadata.version("spurline")
    except metadata.PackageNotFoundError:
        return "uninstalled"


@dataclass(frozen=True, slots=True)
class Hello:
    """Who answers at a socket."""

    version: str
    pid: int
    repo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The arguments of every call; each call uses those that its method has."""

    system: System | None = None
    commit: str | None = None
    lease_s: float | None = None
    name: str | None = None
    ttl_s: float | None = None
    sources: Mapping[str, Source] | None = None
    since: Cursor | float | None = None
    service: str | None = None
    sandbox: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One method of the driver: which arguments it has, and of what type its result is."""

    method: str
    takes: tuple[str, ...]
    gives: Any


UP: Final[Call[Baseline]] = Call("up", ("system", "commit", "lease_s"), Baseline)
STARTS: Final[Call[tuple[Start, ...]]] = Call("starts", (), tuple[Start, ...])
BASELINE: Final[Call[Baseline | None]] = Call("baseline", (), Baseline | None)
HOLD: Final[Call[None]] = Call("hold", ("lease_s",), None)
DOWN: Final[Call[None]] = Call("down", (), None)
CREATE: Final[Call[Sandbox]] = Call("create", ("name", "ttl_s", "sources"), Sandbox)
FORK: Final[Call[Sandbox]] = Call("fork", ("name", "sources"), Sandbox)
RENEW: Final[Call[Sandbox]] = Call("renew", ("name", "ttl_s"), Sandbox)
GET: Final[Call[Sandbox]] = Call("get", ("name",), Sandbox)
LIST: Final[Call[tuple[Sandbox, ...]]] = Call("list", (), tuple[Sandbox, ...])
DELETE: Final[Call[None]] = Call("delete", ("name",), None)
GC: Final[Call[tuple[str, ...]]] = Call("gc", ("dry_run",), tuple[str, ...])
CURSOR: Final[Call[Cursor]] = Call("cursor", (), Cursor)
WINDOW: Final[Call[Window]] = Call("window", ("name", "since"), Window)
LOGS: Final[Call[tuple[LogLine, ...]]] = Call("logs", ("service", "sandbox", "since"), tuple[LogLine, ...])
PLANT: Final[Call[None]] = Call("plant", ("name", "service"), None)
ALL_CALLS: Final[tuple[Call[Any], ...]] = (
    *(UP, STARTS, BASELINE, HOLD, DOWN, CREATE, FORK, RENEW, GET, LIST, DELETE, GC, CURSOR, WINDOW, LOGS, PLANT),
)


def write_arguments(arguments: Arguments) -> bytes:
    return _adapter(Arguments).dump_json(arguments, exclude_none=True)


def read_arguments(call: Call[Any], body: bytes) -> dict[str, Any]:
    """The keyword arguments of the call; SandboxError if the body is not what a client writes."""
    try:
        arguments = _adapter(Arguments).validate_json(body)
    except ValidationError as error:
        raise SandboxError(f"the keeper cannot read a call of {call.method!r}: {error}") from error
    given = {name: getattr(arguments, name) for name in call.takes}
    if call is LOGS and given["since"] is None:
        given["since"] = 0.0
    return given


def write_result(call: Call[Any], result: object) -> bytes:
    return _adapter(call.gives).dump_json(result)


def read_result(call: Call[T], body: bytes) -> T:
    result: T = _adapter(call.gives).validate_json(body)
    return result


def write_hello(hello: Hello) -> bytes:
    return _adapter(Hello).dump_json(hello)


def read_hello(body: bytes) -> Hello:
    hello: Hello = _adapter(Hello).validate_json(body)
    return hello


def error_fields(error: SpurlineError) -> dict[str, Any]:
    """An error as JSON values."""
    fields: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
    if isinstance(error, ForkError):
        fields |= {"service": error.service, "stage": error.stage, "log": list(error.log)}
    return fields


def error_of(fields: Mapping[str, Any]) -> SpurlineError:
    """The error that `error_fields` wrote; SandboxError for a code that is not known here."""
    message, hint = str(fields.get("message", "")), str(fields.get("hint", ""))
    kind = _errors_by_code().get(str(fields.get("code")), SandboxError)
    if issubclass(kind, ForkError):
        return kind(
            message,
            hint=hint,
            service=str(fields["service"]),
            stage=str(fields["stage"]),
            log=tuple(map(str, fields["log"])),
        )
    return kind(message, hint=hint)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@cache
def _errors_by_code() -> dict[str, type[SpurlineError]]:
    """Those that a driver may raise. ConfigError is not among them: it is made where files are read."""
    kinds = (
        *(errors.SpurlineError, errors.UsageError, errors.EnvironmentFault, errors.BaselineError),
        *(errors.SandboxError, errors.SandboxGone, errors.SandboxTaken, errors.ForkError),
        *(errors.StoreError, errors.CheckoutError),
    )
    return {kind.code: kind for kind in kinds}
