"""`spurline runs report`: the report of a run in one of four formats, on stdout or into a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from harness.cli.output import Output, Styled, state_cell, to_json
from harness.project import Project
from tasks.errors import UsageError, disk_is_full

if TYPE_CHECKING:
    from harness.report import Report, Section

Format = Literal["text", "json", "markdown", "html"]

_ENDINGS: Final[dict[str, Format]] = {
    ".txt": "text",
    ".json": "json",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
}
_STATE_COLUMNS: Final = ("state", "before", "now")


def format_of(given: Format | None, output: Path | None, *, json: bool, markdown: bool) -> Format:
    """The format asked for: in so many words, or by how the file's name ends. UsageError where two were."""
    pairs: tuple[tuple[Format | None, bool], ...] = ((given, True), ("json", json), ("markdown", markdown))
    named = dict.fromkeys(name for name, wanted in pairs if name is not None and wanted)
    if len(named) > 1:
        raise UsageError(f"a report has one format, not {' and '.join(named)}", hint="say only --format")
    by_name = _ENDINGS.get(output.suffix.lower(), "text") if output is not None else "text"
    return next(iter(named), by_name)


async def write_report(project: Project, run: str, format: Format, output: Path | None, out: Output) -> None:
    """Print the report, or write it to `output`. Raises UsageError, StoreError."""
    from harness.report import load_report
    from harness.runtime import opened_store

    async with opened_store(project) as database:
        report = await load_report(database, run)
    if output is None and format == "text":
        print_sections(report, out)
    elif output is None:
        out.line(rendered(report, format).rstrip("\n"))
    else:
        _write(output, rendered(report, format))
        out.note(f"the report of run {report.run} is in {output}")


def rendered(report: Report, format: Format) -> str:
    """The report as the text of a file."""
    from harness.report import to_document, to_html, to_markdown

    match format:
        case "json":
            return to_json(to_document(report)) + "\n"
        case "markdown":
            return to_markdown(report)
        case "html":
            return to_html(report)
        case "text":
            text = io.StringIO()
            print_sections(report, Output(stdout=text))
            return text.getvalue()


def print_sections(report: Report, out: Output) -> None:
    """The report for people at a terminal."""
    from harness.report import sections

    for number, section in enumerate(sections(report)):
        if number:
            out.line()
        _print(section, out)


def _print(section: Section, out: Output) -> None:
    if section.title:
        out.line(Styled(section.title, "bold"))
    for line in section.lines:
        out.line(line)
    out.fields(section.fields)
    if section.rows:
        states = [column in _STATE_COLUMNS for column in section.columns]
        out.table(
            section.columns,
            [
                [state_cell(cell) if state else cell for cell, state in zip(row, states, strict=True)]
                for row in section.rows
            ],
        )
    if section.quoted:
        out.line()
        out.line("\n".join(f"  {line}" for line in section.quoted.splitlines()))


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        if disk_is_full(error):
            error.filename = error.filename or str(output)
            raise
        raise UsageError(
            f"{output} cannot be written: {error.strerror}", hint="give another file to --output"
        ) from None
