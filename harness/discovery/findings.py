"""What discovery found in a repository: guesses, each with the place it was read from, and nothing that is certain.

Values only. `source` texts are relative to the repository's root (`docker-compose.yml:12`) and end up as comments
in `spurline.yaml`, so that a reader can judge each guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")

TODO: Final = "TODO"
"""The first word of a command that nobody could guess: `spurline.yaml` parses, `doctor` names what is left."""


@dataclass(frozen=True, slots=True)
class Sourced(Generic[T]):
    """A guess and where it comes from."""

    value: T
    source: str


@dataclass(frozen=True, slots=True)
class Knob:
    """A name by which a program takes a setting from outside: an environment variable or a flag."""

    kind: str
    """`env` or `flag`."""
    name: str
    """`USERS_URL`, or the flag with its dashes: `--users-host`, `-users-host`."""
    default: str
    """The default in the code as text, empty where none was seen."""
    source: str


@dataclass(frozen=True, slots=True)
class Program:
    """Something in the repository that can be started, seen from its manifest and its code."""

    name: str
    cwd: str
    language: str
    """`go`, `node`, `python`, `rust`, `java`."""
    source: str
    build: Sourced[str] | None = None
    command: Sourced[tuple[str, ...]] | None = None
    link: tuple[Sourced[str], ...] = ()
    shared: tuple[Sourced[str], ...] = ()
    grpc: str | None = None
    """Where it was seen to serve gRPC."""
    http2: str | None = None
    """Where it was seen to serve HTTP/2 without TLS, other than for gRPC."""
    listens: bool = True
    """Whether its code was seen to listen, or may."""
    code: tuple[str, ...] = ()
    """Its source files, those in `shared` last; relative to the root."""
    env: Mapping[str, Sourced[str]] = field(default_factory=dict)
    """What its code needs beside addresses."""
    todos: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the system as a compose file, a Procfile or a Makefile names it."""

    name: str
    source: str
    shell: bool = False
    """Its command was written for a shell on this machine; else for a container."""
    cwd: Sourced[str] | None = None
    image: str | None = None
    """Set where nothing is built from the repository: it runs elsewhere."""
    command: Sourced[tuple[str, ...]] | None = None
    build: Sourced[str] | None = None
    hint: str = ""
    """How it is started where that cannot be used as it is (an image's entry point, say); also tells programs apart."""
    env: Mapping[str, Sourced[str]] = field(default_factory=dict)
    unset: tuple[Sourced[str], ...] = ()
    """Variables whose value comes from somewhere that is not read: the shell, a file that git ignores."""
    ports: tuple[Sourced[int], ...] = ()
    """Ports that it listens on, as its neighbours see them; the first is the main one."""
    published: Mapping[int, int] = field(default_factory=dict)
    """Its own port -> the port on the host."""
    depends: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    """Further host names under which its neighbours know it."""
    ready: Sourced[str] | None = None
    """The path to ask, `tcp` or `grpc`."""
    todos: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceFinding:
    """One service as it is proposed."""

    name: str
    source: str
    cwd: Sourced[str]
    command: Sourced[tuple[str, ...]]
    """Begins with `TODO` where nothing was found."""
    shared: tuple[Sourced[str], ...] = ()
    build: Sourced[str] | None = None
    link: tuple[Sourced[str], ...] = ()
    env: Mapping[str, Sourced[str]] = field(default_factory=dict)
    protocol: Sourced[str] | None = None
    ready: Sourced[str] | None = None
    todos: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExternalFinding:
    """Something that runs elsewhere (a database of the compose file): proposed as a comment."""

    name: str
    source: str
    image: str
    url: str | None
    """Where the compose file publishes it; None where it does not."""


@dataclass(frozen=True, slots=True)
class SuiteFinding:
    """A test suite or a linter."""

    name: str
    run: str
    source: str
    certain: bool = True
    """False: proposed as a comment only."""
    told: bool = True
    """Whether it reads where the system is from SPURLINE_URL; of a judging suite that does not, this is left to do."""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found. `notes` says what was skipped, and why."""

    project: str
    services: tuple[ServiceFinding, ...] = ()
    entry: Sourced[str] | None = None
    externals: tuple[ExternalFinding, ...] = ()
    checks: tuple[SuiteFinding, ...] = ()
    static: tuple[SuiteFinding, ...] = ()
    protected: tuple[Sourced[str], ...] = ()
    notes: tuple[str, ...] = ()
