"""What a report takes from a verdict's document. It may be of another version of Spurline: nothing here trusts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.report.values import CheckLine, ForkLine, Proof
from tasks.text import capped

DETAIL_LIMIT: Final = 1_000
EVIDENCE_LIMIT: Final = 8_000


def proof_of(verdict: str, document: Mapping[str, Any]) -> Proof:
    """The proof that the document of `verdict` states."""
    return Proof(
        verdict=verdict,
        commit=_text(document, "commit"),
        conclusion=_text(document, "conclusion"),
        reason=_text(document, "reason"),
        checks=tuple(_check(check) for check in _list(document, "checks")),
        forks=tuple(
            ForkLine(_text(fork, "service"), _count(fork, "generation"), _count(fork, "hops"))
            for fork in _list(document, "forks")
        ),
        notes=tuple(str(note) for note in document.get("notes") or ()),
        evidence=capped(_text(document, "evidence"), EVIDENCE_LIMIT),
    )


def _check(check: Mapping[str, Any]) -> CheckLine:
    return CheckLine(
        name=_text(check, "name"),
        own=bool(check.get("own")),
        baseline=_text(check, "baseline"),
        sandbox=_text(check, "sandbox"),
        flaky=bool(check.get("flaky")),
        detail=capped(_text(check, "detail"), DETAIL_LIMIT),
    )


def _list(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [one for one in document.get(name) or () if isinstance(one, Mapping)]


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return "" if value is None else str(value)


def _count(document: Mapping[str, Any], name: str) -> int:
    value = document.get(name)
    return value if isinstance(value, int) else 0
