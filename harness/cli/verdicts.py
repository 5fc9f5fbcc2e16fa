"""How a verdict document is shown to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.cli.output import Output


def show_verdict(document: Mapping[str, Any], out: Output) -> None:
    """Checks, forks with the hops that prove them, what a reader must know besides, and the evidence, on stdout."""
    if document["checks"]:
        out.line()
        out.table(["check", "whose", "baseline", "sandbox", "flaky"], [_check(check) for check in document["checks"]])
    if document["forks"]:
        out.line()
        out.table(
            ["fork", "generation", "hops"],
            [[fork["service"], str(fork["generation"]), str(fork["hops"])] for fork in document["forks"]],
        )
    if notes := document.get("notes"):
        out.line()
        for note in notes:
            out.line(f"note: {note}")
    if evidence := document.get("evidence"):
        out.line()
        out.line(str(evidence))


def _check(check: Mapping[str, Any]) -> list[str]:
    return [
        str(check["name"]),
        "the ticket's" if check["own"] else "the repository's",
        str(check["baseline"]),
        str(check["sandbox"]),
        "flaky" if check["flaky"] else "",
    ]
