"""The command tree: which module holds which command, and what all commands share.

A module is imported when its command is asked for (or the help lists it), never before.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from harness.cli.place import Place

COMMANDS: Final[Mapping[str, str]] = {
    "init": "harness.cli.init",
    "doctor": "harness.cli.doctor",
    "demo": "harness.cli.demo",
    "run": "harness.cli.run",
    "runs": "harness.cli.runs",
    "tui": "harness.cli.tui",
    "worker": "harness.cli.worker",
    "check": "harness.cli.check",
    "verify": "harness.cli.verify",
    "baseline": "harness.cli.baseline",
    "sandbox": "harness.cli.sandbox",
    "request": "harness.cli.request",
    "tickets": "harness.cli.tickets",
    "keeper": "harness.cli.keeper",
}
"""Every command, in the order of the help: its name and the module whose `app` it is."""

# Words that people type for ours, and what we call it.
_OTHER_WORDS: Final[Mapping[str, str]] = {"ticket": "tickets", "sandboxes": "sandbox", "up": "baseline up"}


class Group(TyperGroup):
    """Commands below a word; without one it helps on stderr, and that is a usage error.

    Contexts are `Any` in these classes: the class that typer hands in is not public.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(2)
        return super().parse_args(ctx, args)


class Commands(Group):
    """The top of the tree: commands by name, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        app: typer.Typer = importlib.import_module(COMMANDS[cmd_name]).app
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # Suggestions are made from this: typer itself only knows commands that are imported already.
        if args[0] not in COMMANDS:
            raise _unknown(args[0])
        return super().resolve_command(ctx, args)


def _unknown(name: str) -> Exception:
    import difflib

    from tasks.errors import UsageError

    near = difflib.get_close_matches(name, [known for known in COMMANDS if known != "keeper"], n=1)
    wanted = _OTHER_WORDS.get(name) or (near[0] if near else None)
    hint = f"did you mean `spurline {wanted}`?" if wanted else "`spurline --help` lists the commands"
    return UsageError(f"there is no command {name!r}", hint=hint)


def noun(help: str) -> typer.Typer:
    """An app for one noun with several verbs, with the settings that all share."""
    return typer.Typer(cls=Group, help=help, add_completion=False, rich_markup_mode=None)


def single() -> typer.Typer:
    """An app for a command without verbs."""
    return typer.Typer(add_completion=False, rich_markup_mode=None)


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback()(_top)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"spurline {version('spurline')}")
        raise typer.Exit


def _top(
    ctx: typer.Context,
    project: Annotated[
        Path | None,
        typer.Option("--project", "-C", metavar="DIR", help="Work on the project in DIR (default: here or above)."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Every ticket ends verified with proof, or honestly not.

    Spurline gives each coding agent its own sandbox of a running microservice system. Data goes to stdout, narration
    to stderr; --json prints one object, or one object a line. Exit codes: 0 done, 1 done but not well, 2 usage or
    configuration, 3 the environment failed, 130 interrupted.
    """
    ctx.obj = Place(project)


def arguments_after_options(argv: Sequence[str]) -> Sequence[str]:
    """The part of `argv` that may hold options: everything before a bare `--`."""
    return argv[: argv.index("--")] if "--" in argv else argv
