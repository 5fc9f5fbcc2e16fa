"""A report as one HTML file that needs nothing else: no network, no script.

Everything comes through Jinja's autoescape, and through `plain` before it; a content policy forbids what would get by
both. How large the page gets is bounded, however many tickets there are.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from harness.report import charts, evidence, outline, words
from harness.report.spans import WORKING
from harness.report.timeline import timeline
from harness.report.values import Report, TicketReport
from tasks.text import plain, span

ROWS: Final = 2_000
"""So many tickets have a row in a table."""
ARTICLES: Final = 200
"""So many tickets' evidence is quoted."""


def to_html(report: Report) -> str:
    """The whole file."""
    quoted = evidence.with_evidence(report)
    listed = _listed(report)
    proven = [(ticket, ticket.proof) for ticket in listed if ticket.state == "verified" and ticket.proof is not None]
    return _template().render(
        report=report,
        totals=report.totals,
        working=WORKING,
        unfinished=words.unfinished(report),
        outcomes=charts.outcomes(report),
        concurrency=charts.concurrency(report),
        states=charts.states(report),
        spending=charts.spending(report),
        tokens=charts.tokens(report),
        dearest=charts.dearest(report),
        timeline=timeline(report),
        change_lines=outline.change_lines(report, report.changes) if report.changes is not None else (),
        change_rows=outline.change_rows(report, report.changes) if report.changes is not None else (),
        moved=report.changes.moved[:ROWS] if report.changes is not None else (),
        listed=listed,
        evidence=quoted[:ARTICLES],
        unquoted=max(0, len(quoted) - ARTICLES),
        proven=proven,
        machines=outline.machine_rows(report),
        branches=outline.BRANCHES,
        notes=evidence.notes_of(report),
        anchors={ticket.ticket: number for number, ticket in enumerate(quoted[:ARTICLES], 1)},
    )


def _listed(report: Report) -> tuple[TicketReport, ...]:
    """The tickets that get a row: all, or as many as may be, those first that are not verified."""
    if len(report.tickets) <= ROWS:
        return report.tickets
    return tuple(sorted(report.tickets, key=lambda ticket: ticket.state == "verified")[:ROWS])


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: plain(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "amount": words.amount,
        "money": words.money,
        "moment": words.moment,
        "percent": words.percent,
        "span": span,
        "times": charts.times,
        "own_checks": evidence.own_checks,
        "others": evidence.others,
        "forks": evidence.forks,
        "broken_checks": evidence.broken_checks,
        "earlier_commit": evidence.earlier_commit,
        "counted": words.plural,
    }
    environment.globals |= {
        "signs": words.STATE_SIGNS,
        "WIDTH": charts.WIDTH,
        "LEFT": charts.LEFT,
        "RIGHT": charts.RIGHT,
    }
    return environment.get_template("page.html")
