"""`spurline init`: a `spurline.yaml` worth keeping for a repository that nobody prepared.

Nothing is overwritten unless asked for, nothing is written through a link, and all that was written is named.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from harness.cli.app import single
from harness.cli.options import Json, place_of
from harness.cli.output import Output, Styled
from harness.discovery import Findings, discover, example_ticket, open_ends, render
from harness.discovery.page import TICKET_PATH
from harness.project import FILE_NAME, STATE_NAME, read_project
from tasks.errors import CheckoutError, ConfigError, UsageError

app = single()

_SHOWN: Final = 20


@app.command()
def init(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Replace a spurline.yaml that is there.")] = False,
    print_only: Annotated[bool, typer.Option("--print", help="Print the file; write nothing.")] = False,
    json: Json = False,
) -> None:
    """Write a spurline.yaml for this repository, from its compose file, Procfile, Makefile and manifests.

    Every guess carries a comment that says where it comes from; what could not be guessed stands as TODO.
    """
    root = (place_of(ctx).given or Path.cwd()).resolve()
    if not root.is_dir():
        raise UsageError(f"there is no folder {str(root)!r}", hint="give an existing folder")
    out = Output(json=json)
    _refuse(root, force=force or print_only)
    findings = discover(root)
    text = render(findings)
    wrong = _wrong(text)
    written = [] if print_only else _write(root, findings, text)
    if json:
        out.object(
            {
                "file": str(root / FILE_NAME),
                "written": written,
                "services": [service.name for service in findings.services],
                "entry": findings.entry.value if findings.entry else None,
                "todo": [{"line": line, "text": words} for line, words in open_ends(text)],
                "notes": list(findings.notes),
                "problem": wrong.problem if wrong else None,
            }
        )
    elif print_only:
        out.line(text.rstrip("\n"))
    _narrate(out, root, findings, text, written)
    if wrong is not None:
        raise wrong


def _refuse(root: Path, *, force: bool) -> None:
    path = root / FILE_NAME
    if path.is_dir() and not path.is_symlink():
        raise UsageError(f"{path} is a folder", hint="move it away")
    if os.path.lexists(path) and not force:
        hint = "`spurline doctor` says what it lacks; --print shows what would be written, --force replaces it"
        raise UsageError(f"{path} is there already", hint=hint)


def _wrong(text: str) -> ConfigError | None:
    """What keeps the text from being read back: nothing, unless discovery itself is wrong."""
    with tempfile.TemporaryDirectory(prefix="spurline-") as folder:
        (Path(folder) / FILE_NAME).write_text(text, encoding="utf-8")
        try:
            read_project(Path(folder))
        except ConfigError as error:
            return error
    return None


def _write(root: Path, findings: Findings, text: str) -> list[str]:
    """Write the file, an example ticket where there is none, and the line in `.gitignore`; what was written."""
    written = []
    try:
        _replace(root / FILE_NAME, text)
        written.append(FILE_NAME)
        tickets = root / TICKET_PATH
        if not tickets.parent.is_symlink() and not any(tickets.parent.glob("*.md")):
            tickets.parent.mkdir(exist_ok=True)
            _replace(tickets, example_ticket(findings))
            written.append(TICKET_PATH)
        if _ignore(root):
            written.append(".gitignore")
    except OSError as error:
        name = error.filename or root
        raise UsageError(
            f"{name} cannot be written: {error.strerror}", hint="--print shows what would be written"
        ) from None
    return written


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, and never through a link."""
    descriptor, name = tempfile.mkstemp(prefix=".spurline-", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        beside.chmod(0o644)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _ignore(root: Path) -> bool:
    """Have git ignore the state folder; whether a line was added."""
    path = root / ".gitignore"
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return False
    text = path.read_bytes().decode(errors="surrogateescape") if path.exists() else ""
    if any(line.strip().strip("/") == STATE_NAME for line in text.splitlines()):
        return False
    gap = "" if text.endswith("\n") or not text else "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{gap}{STATE_NAME}/\n")
    return True


def _narrate(out: Output, root: Path, findings: Findings, text: str, written: list[str]) -> None:
    for note in findings.notes:
        out.note(Styled(note, "dim"))
    names = ", ".join(service.name for service in findings.services)
    out.note(f"found {len(findings.services)} services: {names}" if names else "found nothing that names a service")
    if not written:
        return
    out.note(f"wrote {', '.join(written)}" + (f" (git ignores {STATE_NAME}/ now)" if ".gitignore" in written else ""))
    left = open_ends(text)
    for line, words in left[:_SHOWN]:
        out.note(f"  {FILE_NAME}:{line}: {words}")
    if len(left) > _SHOWN:
        out.note(f"  and {len(left) - _SHOWN} more lines with TODO")
    try:
        from harness.repository.git import locate

        asyncio.run(locate(root))
    except CheckoutError as error:
        out.warning(error.message)
        out.note(f"hint: {error.hint}")
    out.note("next: fill in what says TODO, see `spurline doctor`, commit, then `spurline baseline up`")
