"""`spurline verify`: check a verification record offline, without a baseline, a repository or a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import single
from harness.cli.options import Json, place_of
from harness.cli.output import Cell, Output, Styled, state_cell
from harness.cli.place import Place
from harness.cli.verdicts import show_verdict
from tasks.errors import UsageError

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # re-exported silently

    from harness.submission import Verification

app = single()


@app.command("verify")
def verify(
    ctx: typer.Context,
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="A record.json of a run or of `check`.")],
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="FILE", help="A public key to trust instead of the project's; may be repeated."),
    ] = None,
    commit: Annotated[
        str | None, typer.Option("--commit", metavar="SHA", help="The full id of the commit that it must speak of.")
    ] = None,
    json: Json = False,
) -> None:
    """Check that a record is whole, signed by a known key, and concludes what its own facts say.

    Exit 0 only when all of it holds and the commit is verified. One altered byte is enough for exit 1.
    """
    from harness.submission import load_public_key, verify_file
    from harness.validation import rejudge

    keys = [load_public_key(path) for path in key] if key else [_own_key(place_of(ctx))]
    found = verify_file(record, keys, rejudge)
    other = _other_commit(found, commit)
    holds = found.verified and other is None
    out = Output(json=json)
    if json:
        out.object(_document(found, other, holds=holds))
    else:
        _show(found, other, out)
    if not holds:
        raise typer.Exit(1)


def _own_key(place: Place) -> SSlibKey:
    """The public key of the project that the command works on."""
    from harness.project import STATE_NAME
    from harness.submission import load_public_key
    from harness.submission.keys import PUBLIC_NAME

    try:
        path = place.root() / STATE_NAME / "keys" / PUBLIC_NAME
    except UsageError as error:
        raise UsageError(error.message, hint="outside of a project, name the key to trust with --key FILE") from None
    return load_public_key(path)


def _other_commit(found: Verification, commit: str | None) -> str | None:
    """What is wrong about the commit, None where it is the one asked for."""
    spoken_of = found.verdict.get("commit")
    if commit is None or not found.sound or spoken_of == commit:
        return None
    return f"it speaks of commit {spoken_of}, not of {commit}"


def _document(found: Verification, other: str | None, *, holds: bool) -> dict[str, Any]:
    verdict = found.verdict
    return {
        "verified": holds,
        "sound": found.sound,
        "reason": other or found.reason,
        "key": found.key,
        "conclusion": verdict.get("conclusion"),
        "commit": verdict.get("commit"),
        "base": verdict.get("base"),
        "tree": verdict.get("tree"),
        "ticket": verdict.get("ticket"),
        "run": verdict.get("run"),
    }


def _show(found: Verification, other: str | None, out: Output) -> None:
    wrong = other or ("" if found.sound else found.reason)
    sound: Cell = Styled(wrong, "bold red") if wrong else Styled("whole, signed, consistent", "green")
    verdict = found.verdict if found.sound else {}
    out.fields(
        [
            ("record", sound),
            ("key", found.key or ""),
            ("verdict", state_cell(str(verdict.get("conclusion", "")))),
            ("reason", str(verdict.get("reason", ""))),
            ("commit", str(verdict.get("commit", ""))),
            ("base", str(verdict.get("base", ""))),
            ("ticket", str(verdict.get("ticket", ""))),
        ]
    )
    if verdict:
        show_verdict(verdict, out)
