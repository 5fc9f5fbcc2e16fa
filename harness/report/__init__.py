"""What a run came to: rows and events in, one frozen `Report` out, and a renderer for each format.

`load_report` reads the store; `build` makes the value, in which no clock and no machine has a part. `sections` says it
in words, for terminals and for `to_markdown`; `to_document` is for programs, `to_html` is one file with charts. What
agents and services wrote is text in all of them, and never markup.
"""

from __future__ import annotations

from harness.report.document import to_document
from harness.report.facts import build
from harness.report.loading import load_report
from harness.report.markdown import to_markdown
from harness.report.outline import Section, sections
from harness.report.page import to_html
from harness.report.values import Report

__all__ = ["Report", "Section", "build", "load_report", "sections", "to_document", "to_html", "to_markdown"]
