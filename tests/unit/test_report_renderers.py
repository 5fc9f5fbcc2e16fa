"""The four formats of a report: whole against goldens of a real run, and safe whatever agents and services wrote.

`WRITE_GOLDENS=1 pytest …` writes the goldens anew; what changed is then for a reader to judge.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.cli.report import Format, rendered
from harness.report import Report, to_document, to_html, to_markdown
from harness.report.charts import concurrency, time_ticks
from harness.report.markdown import escaped
from harness.report.page import ARTICLES, ROWS
from harness.report.timeline import MOST_STRIPS, timeline
from harness.report.words import amount, money, percent
from harness.store.attempts import agent_json
from tasks.text import one_line, plain
from tests.recorded_runs import multiplied, read

GOLDENS: Final = Path(__file__).parent / "goldens" / "report"
WRITE: Final = "WRITE_GOLDENS" in os.environ
ENDINGS: Final[dict[Format, str]] = {"text": "txt", "json": "json", "markdown": "md", "html": "html"}

FINISHED = read(GOLDENS / "finished.rows.json")
INTERRUPTED = read(GOLDENS / "interrupted.rows.json")
REPORT = FINISHED.report()

EVIL: Final = (
    "<script>alert(1)</script> [x](http://evil.example) ![i](//evil) **b** `c` @you | --- \x1b[31m \u202e &lt; '\">"
)
any_text = (
    st.text(max_size=60)
    | st.sampled_from([EVIL, "</pre><b>", "```\n# h\n", "* a\n* b", "<!--", "--- | ---"])
    | st.text(alphabet="<>&'\"`|\\*_[]()!#-=~@: \n\tab1", max_size=60)
).filter(lambda text: bool(plain(text).strip()))


@pytest.mark.parametrize("format", get_args(Format))
def test_the_report_of_a_real_run(format: Format) -> None:
    golden = GOLDENS / f"finished.{ENDINGS[format]}"
    text = rendered(REPORT, format)
    if WRITE:
        golden.write_text(text)
    assert text == golden.read_text()


def test_the_report_of_a_real_run_that_was_interrupted() -> None:
    golden = GOLDENS / "interrupted.txt"
    text = rendered(INTERRUPTED.report(), "text")
    if WRITE:
        golden.write_text(text)
    assert text == golden.read_text()
    assert text.startswith("This run was interrupted after 46 s; 13 tickets had not ended.\n")


def saying(text: str) -> Report:
    """The report with `text` wherever somebody else's words stand."""
    tickets = []
    for ticket in REPORT.tickets[:4]:
        proof = ticket.proof
        assert proof is not None
        checks = tuple(replace(check, name=text, detail=text) for check in proof.checks)
        forks = tuple(replace(fork, service=text) for fork in proof.forks)
        proof = replace(proof, reason=text, checks=checks, forks=forks, notes=(text,), evidence=f"{text}\n{text}")
        words: dict[str, Any] = dict.fromkeys(("ticket", "title", "reason", "branch", "commit", "submission"), text)
        tickets.append(replace(ticket, **words, proof=proof))
    assert REPORT.changes is not None
    throughput = replace(REPORT.throughput, longest=text, sentences=(text,))
    changes = replace(REPORT.changes, run=text, base=text, new=(text,), gone=(text,))
    return replace(REPORT, project=text, tickets=tuple(tickets), throughput=throughput, changes=changes)


class Page(HTMLParser):
    """What a page is made of, apart from its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", ()))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("!--", ()))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


HARMLESS_PAGE: Final = Page(to_html(saying("harmless")))


@settings(max_examples=60)
@given(any_text)
def test_no_text_becomes_markup_of_the_page(text: str) -> None:
    page = Page(to_html(saying(text)))
    assert page.tags == HARMLESS_PAGE.tags
    assert page.links == HARMLESS_PAGE.links
    assert plain(text) in "".join(page.texts)


@given(any_text)
def test_no_text_becomes_markup_of_the_markdown(text: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    shapes = []
    for said in (text, "harmless"):
        tokens = parser.parse(to_markdown(saying(said)))
        shapes.append([token.type for token in tokens])
        inside = [child for token in tokens for child in token.children or ()]
        assert {child.type for child in inside} <= {"text", "text_special", "softbreak", "hardbreak"}
        if said and one_line(said) == said and len(said) < 100:
            shown = "".join(child.content for child in inside).replace("\u2060", "")
            assert said.replace("\u2060", "") in shown
    assert [kind for kind in shapes[0] if kind != "inline"] == [kind for kind in shapes[1] if kind != "inline"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("ask @you", "ask \\@\u2060you"),
        ("https://evil.example", "https\\://evil.example"),
        ("WWW.evil.example", "WWW\\.evil.example"),
        ("1. one", "1\\. one"),
        ("- one", "\\- one"),
        ("==", "\\=="),
        ("$x$ ~y~", "\\$x\\$ \\~y\\~"),
        ("12,728 written, 0.26 USD (83 %)", "12,728 written, 0.26 USD (83 %)"),
    ],
)
def test_what_github_would_make_of_a_text_is_not_made(text: str, written: str) -> None:
    assert escaped(text) == written


@pytest.mark.parametrize("format", get_args(Format))
def test_no_control_sequence_is_in_any_format(format: Format) -> None:
    text = rendered(saying(EVIL), format)
    assert not {"\x1b", "\u202e"} & set(text)


def test_the_page_needs_no_network_and_no_script() -> None:
    page = Page(to_html(REPORT))
    names = {name for name, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "use", "image"}
    assert all(link.startswith("#evidence-") for link in page.links)
    assert not [attributes for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in to_html(REPORT)
    assert "url(" not in to_html(REPORT)
    assert "@import" not in to_html(REPORT)


def test_every_link_leads_somewhere() -> None:
    text = to_html(REPORT)
    links = Page(text).links
    assert links
    assert [link for link in links if f'id="{link[1:]}"' not in text] == []


def test_every_ticket_of_a_hundred_has_a_named_strip_and_a_row() -> None:
    report = multiplied(FINISHED, 100, slots=100).report()
    chart = timeline(report)
    assert chart.labelled
    assert {strip.label for strip in chart.strips} == {one_line(ticket.ticket, 26) for ticket in report.tickets}
    text = to_html(report)
    assert [ticket.ticket for ticket in report.tickets if text.count(f">{ticket.ticket}<") < 2] == []


def test_ten_thousand_tickets_make_a_page_of_bounded_size() -> None:
    report = multiplied(FINISHED, 10_000, slots=100).report()
    text = to_html(report)
    assert len(text) < 6_000_000
    assert text.count("<article") == ARTICLES
    assert text.count('class="reason"') - text.count('data-head="sandbox"') == ROWS
    assert len(timeline(report).strips) == MOST_STRIPS
    assert "One of every 10 tickets is drawn." in text
    assert f"{ROWS} of 10000 are listed, those first that are not verified" in text
    assert report.throughput.full_share > 0


def test_no_shape_leaves_its_chart() -> None:
    for report in (REPORT, INTERRUPTED.report(), multiplied(FINISHED, 1_000, slots=7).report()):
        chart = timeline(report)
        assert all(chart.left <= strip.end_x <= chart.right + 0.01 for strip in chart.strips)
        plot = concurrency(report)
        assert all(0 <= tick.at <= plot.bottom for tick in plot.up)
        assert plot.limit is None or plot.limit >= 0


@given(st.floats(min_value=0.001, max_value=1e8))
def test_a_scale_of_time_has_few_marks_inside_it(seconds: float) -> None:
    ticks = time_ticks(seconds, 10, 20)
    assert 1 <= len(ticks) <= 12
    assert all(10 <= tick.at <= 20.001 for tick in ticks)


def test_a_run_that_goes_on_says_so_in_every_format() -> None:
    recorded = replace(INTERRUPTED, run=INTERRUPTED.run.model_copy(update={"state": "running", "ended_at": None}))
    report = recorded.report()
    for format in ("text", "markdown", "html"):
        assert "This run has not ended" in rendered(report, format)
    found = to_document(report)
    assert (found["state"], found["ended_at"]) == ("running", None)
    assert found["known_at"] == max(event.at for event in recorded.events)


def on_machines(*names: str) -> Report:
    """The report where these machines worked on the tickets in turn."""
    placed = zip(REPORT.tickets, names * len(REPORT.tickets), strict=False)
    return replace(REPORT, tickets=tuple(replace(ticket, machine=name) for ticket, name in placed))


@pytest.mark.parametrize("format", sorted({*get_args(Format)} - {"json"}))
def test_whose_repository_has_which_branches_is_said_where_two_machines_worked_on_it(format: Format) -> None:
    shared, tickets = on_machines("anvil", "bellows"), [ticket.ticket for ticket in REPORT.tickets]
    assert shared.by_machine() == {"anvil": tuple(tickets[::2]), "bellows": tuple(tickets[1::2])}
    said = rendered(shared, format)
    for machine, its in shared.by_machine().items():
        assert any(machine in line and ", ".join(its) in line for line in said.splitlines()), machine
    alone = rendered(on_machines("anvil"), format)
    assert "anvil" not in alone


def test_what_runs_show_says_of_an_agent_the_report_says_too() -> None:
    shown = agent_json(FINISHED.agents[0])
    reported = to_document(REPORT)["agents"][0]
    assert {key: value for key, value in reported.items() if key in shown} == shown


def test_the_json_is_one_line_that_says_it_all() -> None:
    found = json.loads(rendered(REPORT, "json"))
    assert rendered(REPORT, "json").count("\n") == 1
    assert sum(found["tickets"].values()) == len(found["agents"]) == 20
    assert found["changes"]["run"] == FINISHED.earlier[0].id if FINISHED.earlier else False
    failed = next(agent for agent in found["agents"] if agent["state"] == "failed")
    assert failed["proof"]["evidence"].startswith("Verdict: failed")
    assert sum(failed["seconds_by_state"].values()) == pytest.approx(failed["seconds"], abs=10)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (percent(0.416), "42 %"),
        (percent(0.001), "<1 %"),
        (percent(0.0), "0 %"),
        (percent(None), "–"),
        (money(12.3456), "12.35 USD"),
        (money(0.01234), "0.0123 USD"),
        (money(0), "0.00 USD"),
        (amount(950), "950"),
        (amount(12_400), "12.4k"),
        (amount(3_000_000), "3M"),
    ],
)
def test_numbers_in_words(said: str, words: str) -> None:
    assert said == words
