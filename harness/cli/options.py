"""Options and arguments that several commands share: one spelling, one help text, one completion."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import completion
from harness.cli.place import Place
from tasks.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print data as JSON, one object a line.")]
SandboxName = Annotated[str, typer.Argument(metavar="NAME", autocompletion=completion.sandboxes)]
ServiceOption = Annotated[
    str | None,
    typer.Option("--service", "-s", metavar="SERVICE", autocompletion=completion.services, help="The service meant."),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or `last`.")]
Tickets = Annotated[
    list[str] | None, typer.Option("--ticket", "-t", metavar="ID", help="Only this ticket of the run; repeat.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")]


def place_of(ctx: typer.Context) -> Place:
    """Where this command works."""
    place = ctx.obj
    assert isinstance(place, Place), "the top of the tree sets it"
    return place


def duration(text: str, option: str) -> float:
    """`30m`, `20s`, `1h` or a bare number of seconds, in seconds. UsageError names the option."""
    from tasks.ticket import seconds

    try:
        value = float(text) if text.replace(".", "", 1).isdigit() else seconds(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} {error}", hint=f"for example {option} 30m") from None
    assert isinstance(value, float)
    if value <= 0:
        raise UsageError(f"{option} {text!r} must be more than zero", hint=f"for example {option} 30m")
    return value


def sandbox_name(name: str) -> str:
    """`name` if it can name a sandbox. UsageError where it cannot."""
    from tasks.ticket import safe_id

    try:
        return safe_id(name)
    except ValueError as error:
        raise UsageError(f"the sandbox name {name!r} {error}", hint="for example: my-change") from None
