"""`spurline check`: the loop's validation alone, for any commit; a CI gate in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.app import single
from harness.cli.interrupts import complete
from harness.cli.options import Json, place_of
from harness.cli.output import Output, state_cell
from harness.cli.verdicts import show_verdict
from harness.project import Project

if TYPE_CHECKING:
    from harness.runtime import JudgedCommit

app = single()


@app.command("check")
def check(
    ctx: typer.Context,
    rev: Annotated[str, typer.Argument(metavar="REV", help="The commit to judge.")] = "HEAD",
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="REV", help="What it is compared with (default: where it forked off)."),
    ] = None,
    ticket: Annotated[
        str | None,
        typer.Option(
            "--ticket", "-t", metavar="ID", autocompletion=completion.tickets, help="Judge by its checks too."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Fork what the commit changed, run the checks, print the verdict, write the record.

    Exit codes: 0 verified, 1 not, 2 usage or configuration, 3 the environment failed, 130 interrupted.
    """
    raise typer.Exit(complete(_check(place_of(ctx).workshop(), rev, base, ticket, Output(json=json))))


async def _check(project: Project, rev: str, base: str | None, ticket: str | None, out: Output) -> int:
    from harness.runtime import check_commit

    result = await check_commit(project, rev, base, ticket, out.note)
    _show(result, out)
    return 0 if result.verdict.conclusion == "verified" else 1


def _show(result: JudgedCommit, out: Output) -> None:
    if out.json:
        out.object(result.to_json())
        return
    out.fields(
        [
            ("verdict", state_cell(result.verdict.conclusion)),
            ("reason", result.verdict.reason),
            ("commit", str(result.document["commit"])),
            ("base", str(result.document["base"])),
            ("record", str(result.record)),
        ]
    )
    show_verdict(result.document, out)
