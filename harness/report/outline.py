"""A report in words: sections of names and values, tables and quoted text, for terminals and Markdown alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from harness.report import evidence
from harness.report.spans import WORKING
from harness.report.values import Changes, Report, Totals
from harness.report.words import counts, moment, money, percent, plural, unfinished
from tasks.text import one_line, span

EVIDENCE_TICKETS: Final = 100
"""So many tickets' evidence is quoted; the others' is shown by `spurline runs show --ticket`."""
BRANCHES: Final = "Whose repository has the branches"

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the report; what is empty is left out. Its texts may be anybody's."""

    title: str = ""
    lines: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    columns: Row = ()
    rows: tuple[Row, ...] = ()
    quoted: str = ""
    """Text to be shown as it is."""


def sections(report: Report) -> tuple[Section, ...]:
    """All sections, in the order of reading."""
    parts = [_head(report), _tickets(report), _throughput(report), _by_state(report), *_changes(report)]
    return (*parts, *_notes(report), *_proven(report), *_machines(report), *_evidence(report))


def _head(report: Report) -> Section:
    totals = report.totals
    first = unfinished(report)
    return Section(
        lines=(first,) if first else (),
        fields=(
            ("run", report.run),
            ("project", report.project),
            ("state", report.state),
            ("began", moment(report.began_at)),
            ("took", span(report.seconds)),
            ("base", report.base),
            ("tickets", counts(report)),
            ("iterations", str(totals.iterations)),
            ("model calls", str(totals.model_calls)),
            ("tokens", _tokens(totals)),
            ("cost", money(totals.cost_usd)),
            ("Spurline", report.spurline),
        ),
    )


def _tokens(totals: Totals) -> str:
    tokens = totals.tokens
    return (
        f"{tokens.total:,}: {tokens.output:,} written, {tokens.input:,} read fresh, {tokens.cache_read:,} read from "
        f"the cache ({percent(tokens.cache_share)} of what was read), {tokens.cache_write:,} written to it"
    )


def _tickets(report: Report) -> Section:
    return Section(
        title="Tickets",
        columns=("ticket", "state", "iterations", "tokens", "cache", "cost", "time", "reason"),
        rows=tuple(
            (
                ticket.ticket,
                ticket.state,
                str(ticket.iterations),
                f"{ticket.tokens.total:,}",
                percent(ticket.tokens.cache_share),
                money(ticket.cost_usd),
                span(ticket.seconds),
                ticket.reason,
            )
            for ticket in report.tickets
        ),
    )


def _throughput(report: Report) -> Section:
    return Section(title="What limited the throughput", lines=report.throughput.sentences)


def _by_state(report: Report) -> Section:
    spent: Counter[str] = Counter()
    for ticket in report.tickets:
        spent.update(ticket.by_state())
    working = sum(spent[state] for state in WORKING)
    return Section(
        title="Time by state",
        columns=("state", "time of all agents", "of working time", "a ticket"),
        rows=tuple(
            (
                state,
                span(spent[state]),
                percent(spent[state] / working) if state in WORKING and working else "",
                span(spent[state] / len(report.tickets)),
            )
            for state in ("queued", *WORKING, "paused")
            if spent[state]
        ),
    )


def change_lines(report: Report, before: Changes) -> tuple[str, ...]:
    """Which run this one is compared with, and how their backlogs and bases differ."""
    unended = "" if before.state == "finished" else ", which did not come to its end"
    base = "with the same base" if before.base == report.base else f"with base {before.base[:12]}"
    lines = [f"Compared with run {before.run}, {base}{unended}."]
    if before.new:
        lines.append(f"New tickets: {_listed(before.new)}.")
    if before.gone:
        lines.append(f"No longer in the backlog: {_listed(before.gone)}.")
    return tuple(lines)


def change_rows(report: Report, before: Changes) -> tuple[Row, ...]:
    """What is compared of both runs, what it was before, and what it is now."""
    now, then = report.totals, before.totals
    return (
        ("verified", f"{then.verified} of {then.tickets}", f"{now.verified} of {now.tickets}"),
        ("time", span(before.seconds), span(report.seconds)),
        ("cost", money(then.cost_usd), money(now.cost_usd)),
        ("tokens", f"{then.tokens.total:,}", f"{now.tokens.total:,}"),
        ("iterations", str(then.iterations), str(now.iterations)),
    )


def _changes(report: Report) -> Iterable[Section]:
    before = report.changes
    if before is None:
        return
    moved = tuple((moved.ticket, moved.before, moved.after) for moved in before.moved)
    yield Section(
        title="What changed since the last run of this backlog",
        lines=change_lines(report, before),
        columns=("", "before", "now"),
        rows=change_rows(report, before) + moved,
    )


def _listed(names: tuple[str, ...], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _notes(report: Report) -> Iterable[Section]:
    if notes := evidence.notes_of(report):
        yield Section(title="Noted", columns=("tickets", "note"), rows=tuple((str(n), note) for note, n in notes))


def _proven(report: Report) -> Iterable[Section]:
    verified = [(ticket, ticket.proof) for ticket in report.tickets if ticket.state == "verified" and ticket.proof]
    if verified:
        yield Section(
            title="Proof of the verified",
            columns=("ticket", "requests served by forks", "other checks", "submission", "its own checks"),
            rows=tuple(
                (
                    ticket.ticket,
                    evidence.forks(proof),
                    evidence.others(proof),
                    ticket.submission or "",
                    evidence.own_checks(proof),
                )
                for ticket, proof in verified
            ),
        )


def machine_rows(report: Report) -> tuple[Row, ...]:
    """Which machine's repository has which tickets' branches; nothing where only one machine worked on the run."""
    found = report.by_machine()
    return (
        tuple((name, str(len(tickets)), _listed(tickets)) for name, tickets in found.items()) if len(found) > 1 else ()
    )


def _machines(report: Report) -> Iterable[Section]:
    if rows := machine_rows(report):
        yield Section(title=BRANCHES, columns=("machine", "tickets", "which"), rows=rows)


def _evidence(report: Report) -> Iterable[Section]:
    found = evidence.with_evidence(report)
    for ticket in found[:EVIDENCE_TICKETS]:
        proof = ticket.proof
        assert proof is not None
        yield Section(
            title=f"Evidence: {ticket.ticket}, {ticket.state}",
            lines=tuple(line for line in (ticket.title, ticket.reason, evidence.earlier_commit(ticket)) if line),
            columns=("check", "whose", "baseline", "sandbox", "said"),
            rows=tuple((*cells[:4], one_line(cells[4])) for cells in evidence.broken_checks(proof)),
            quoted=proof.evidence,
        )
    if len(found) > EVIDENCE_TICKETS:
        rest = plural(len(found) - EVIDENCE_TICKETS, "more ticket")
        yield Section(lines=(f"{rest} with evidence: `spurline runs show {report.run} --ticket ID` shows each.",))
